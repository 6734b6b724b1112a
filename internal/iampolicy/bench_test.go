package iampolicy

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"
)

// largest is a key policy of nearly the 32 KB that KMS takes: roles with encryption
// contexts of their own, patterns on principals, a perimeter.
func largest(tb testing.TB) Access {
	tb.Helper()
	var all []Statement
	for i := 0; ; i++ {
		s := Statement{Sid: fmt.Sprintf("Team%d", i), Effect: Allow, Action: Values{"kms:Decrypt", "kms:Encrypt"}, Resource: Values{"*"},
			Principal: Principal{AWS: Values{fmt.Sprintf("arn:aws:iam::111122223333:role/team-%d/service", i)}},
			Condition: Condition{"StringEquals": {"kms:EncryptionContext:team": {fmt.Sprintf("team-%d", i)}}, "ForAllValues:StringEquals": {"kms:EncryptionContextKeys": {"team"}}}}
		switch i % 8 {
		case 3:
			s.Principal.AWS = Values{"*"}
			s.Condition["ArnLike"] = map[string]Values{"aws:PrincipalArn": {fmt.Sprintf("arn:aws:iam::111122223333:role/*/reader-%d-*", i)}}
		case 5:
			s = Statement{Sid: s.Sid, Effect: Deny, Action: Values{"kms:*"}, Resource: Values{"*"}, Principal: Principal{AWS: Values{"*"}},
				Condition: Condition{"StringNotLike": {"aws:PrincipalArn": {fmt.Sprintf("arn:aws:iam::111122223333:role/team-%d*", i%3), "arn:aws:iam::*:role/*"}}, "StringNotEquals": {"kms:EncryptionContext:team": {"x", "y"}}, "Bool": {"aws:PrincipalIsAWSService": {"false"}}}}
		}
		if data, err := json.Marshal(append(all, s)); err != nil || len(data) > 32<<10 {
			return Access{Key: keyOfTests, Policy: NamedDocument{Name: "key policy", Document: NewDocument(all...)}}
		}
		all = append(all, s)
	}
}

// BenchmarkLargest asks of the largest policies whether one allows more: for each caller
// and action that is one question. It prints how much longer a question takes than the
// evaluation of one request.
func BenchmarkLargest(b *testing.B) {
	a := largest(b)
	wider := a
	wider.Policy.Statement = append(Statements{{Sid: "More", Effect: Allow, Action: Values{"kms:Decrypt"}, Resource: Values{"*"}, Principal: Principal{AWS: Values{"*"}},
		Condition: Condition{"StringLike": {"aws:PrincipalArn": {"arn:aws:iam::111122223333:role/team-7/*"}, "kms:EncryptionContext:team": {"team-*"}}}}}, a.Policy.Statement...)
	begun := time.Now()
	const evaluations = 100
	for range evaluations {
		if _, err := Evaluate(Request{Caller: Caller{ARN: "arn:aws:iam::111122223333:role/anybody"}, Action: "kms:Decrypt", Resource: keyOfTests}, a.policies(nil)); err != nil {
			b.Fatal(err)
		}
	}
	one := time.Since(begun) / evaluations
	holders, err := templates(newDecider(a.Key), a, wider)
	if err != nil {
		b.Fatal(err)
	}
	questions := 0
	for _, h := range holders {
		questions += len(identities(h.Holder, a, wider)) * len(KMSActions)
	}
	b.ResetTimer()
	for b.Loop() {
		changes, notes, err := Widenings(a, wider)
		if err != nil || len(notes) > 0 || len(changes) == 0 {
			b.Fatal(len(changes), notes, err)
		}
	}
	each := b.Elapsed() / time.Duration(b.N*questions)
	b.ReportMetric(float64(each)/float64(one), "question/evaluation")
	b.ReportMetric(float64(each.Microseconds())/1000, "ms/question")
	b.ReportMetric(float64(questions), "questions")
}
