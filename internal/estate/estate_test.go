package estate_test

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ekskms/ekskms/internal/cfn"
	"github.com/ekskms/ekskms/internal/estate"
	"github.com/ekskms/ekskms/internal/estate/estatetest"
	"github.com/ekskms/ekskms/internal/value"
)

func read(t *testing.T, template string) *estate.Estate {
	t.Helper()
	a, err := cfn.Parse("t.yaml", []byte(template), cfn.Environment{Account: "111122223333", Region: "eu-central-1"})
	if err != nil {
		t.Fatal(err)
	}
	return estate.FromTemplates(a)
}

// TestUnique shows that things of two stacks with the same logical IDs are two things.
func TestUnique(t *testing.T) {
	e := estatetest.BesideAnother(t, estatetest.Golden(t, "default"))
	if len(e.Clusters) != 2 || len(e.Keys) != 8 {
		t.Fatalf("%d clusters, %d keys", len(e.Clusters), len(e.Keys))
	}
	arns := map[string]bool{}
	for _, kind := range []estate.Kind{estate.KindCluster, estate.KindKey, estate.KindRole, estate.KindTrail, estate.KindTopic, estate.KindRule} {
		for _, thing := range e.Of(kind) {
			if thing.ARN == "" || arns[thing.ARN] {
				t.Errorf("%s has the ARN %q, as another has", thing.Resource, thing.ARN)
			}
			arns[thing.ARN] = true
		}
	}
	for _, c := range e.Clusters {
		if c.Key == nil || c.Key.In != c.In || !slices.Contains(c.Key.Clusters, c) {
			t.Errorf("the cluster of %s has a key of another stack", c.In.Name)
		}
		if p := e.Principal(c.Settings["RoleArn"]); p == nil || p.In != c.In || p.Runs != "the cluster's role" {
			t.Errorf("the cluster of %s has a role of another stack: %+v", c.In.Name, p)
		}
	}
}

// TestSameName shows that things of different kinds, and in different places, may have the same
// name: each value means the one that it can mean, and the nearest.
func TestSameName(t *testing.T) {
	const template = `{"Resources":{
		"A":{"Type":"AWS::CloudWatch::Alarm","Properties":{"AlarmName":"payments"}},
		"B":{"Type":"AWS::S3::Bucket","Properties":{"BucketName":"payments"}},
		"C":{"Type":"AWS::EKS::Cluster","Properties":{"Name":"payments","RoleArn":{"Fn::GetAtt":["R","Arn"]}}},
		"Q":{"Type":"AWS::SQS::Queue","Properties":{"QueueName":"payments"}},
		"QP":{"Type":"AWS::SQS::QueuePolicy","Properties":{"Queues":[{"Ref":"Q"}],"PolicyDocument":{"Statement":[]}}},
		"R":{"Type":"AWS::IAM::Role","Properties":{"RoleName":"payments"}},
		"P":{"Type":"AWS::IAM::RolePolicy","Properties":{"RoleName":"payments","PolicyName":"p","PolicyDocument":{"Version":"2012-10-17","Statement":[]}}}
	}}`
	a, err := cfn.ParseAll("t", []cfn.Part{
		{Name: "east", Account: "111122223333", Region: "us-east-1", Data: []byte(template)},
		{Name: "west", Account: "111122223333", Region: "us-west-2", Data: []byte(template)},
		{Name: "other", Account: "444455556666", Region: "us-west-2", Data: []byte(template)},
	}, cfn.Environment{})
	if err != nil {
		t.Fatal(err)
	}
	e := estate.FromTemplates(a)
	for _, s := range e.Stacks {
		if p := e.Principal(s.Things["R"].ARN); p == nil || len(p.Policies) == 0 {
			t.Errorf("%s: the role has lost its policy: %+v", s.Name, p)
		}
		for id, kind := range map[string]estate.Kind{"B": estate.KindBucket, "C": estate.KindCluster, "Q": estate.KindQueue, "A": estate.KindMetricAlarm} {
			if got := e.LookupOf(s.Things["P"], "payments", kind); got != s.Things[id] {
				t.Errorf("%s: of kind %s the name means %+v", s.Name, kind, got)
			}
		}
		if policies := e.PoliciesFor(s.Things["Q"]); len(policies) != 1 || policies[0].On != s.Things["QP"] {
			t.Errorf("%s: the queue has the policies %+v", s.Name, policies)
		}
	}
}

// TestClusters shows that clusters are read alike, however they are written.
func TestClusters(t *testing.T) {
	for name, template := range map[string]string{
		"CloudFormation": `
  Cluster:
    Type: AWS::EKS::Cluster
    Properties:
      Name: one
      RoleArn: !GetAtt Role.Arn
      EncryptionConfig: [{Provider: {KeyArn: !GetAtt Key.Arn}, Resources: [secrets]}]`,
		"CDK's older module": `
  Cluster:
    Type: Custom::AWSCDK-EKS-Cluster
    Properties:
      Config:
        name: one
        roleArn: !GetAtt Role.Arn
        encryptionConfig: [{provider: {keyArn: !GetAtt Key.Arn}, resources: [secrets]}]`,
	} {
		t.Run(name, func(t *testing.T) {
			e := read(t, "Resources:\n  Key: {Type: AWS::KMS::Key}\n  Role: {Type: AWS::IAM::Role}"+template)
			if len(e.Clusters) != 1 {
				t.Fatalf("%d clusters", len(e.Clusters))
			}
			c := e.Clusters[0]
			if c.Settings["Name"] != "one" || c.Key == nil || c.Key.LogicalID != "Key" || e.Principal(c.Settings["RoleArn"]).Runs == "" {
				t.Errorf("%+v", c)
			}
		})
	}
	if e := read(t, "Resources: {C: {Type: 'Custom::AWSCDK-EKS-Cluster', Properties: {Config: x}}}"); len(e.Clusters) != 0 || len(e.Notes) != 1 {
		t.Errorf("%d clusters, notes %v", len(e.Clusters), e.Notes)
	}
}

// TestPrincipals shows by which ways a principal has its IAM policies.
func TestPrincipals(t *testing.T) {
	const decrypt = `{Version: "2012-10-17", Statement: {Effect: Allow, Action: kms:Decrypt, Resource: "*"}}`
	e := read(t, `
Resources:
  Inline: {Type: AWS::IAM::Role, Properties: {Policies: [{PolicyName: p, PolicyDocument: `+decrypt+`}]}}
  Attached: {Type: AWS::IAM::Role}
  Policy: {Type: AWS::IAM::Policy, Properties: {Roles: [!Ref Attached], PolicyDocument: `+decrypt+`}}
  OfRole: {Type: AWS::IAM::Role}
  RolePolicy: {Type: AWS::IAM::RolePolicy, Properties: {RoleName: !Ref OfRole, PolicyDocument: `+decrypt+`}}
  Managed: {Type: AWS::IAM::Role, Properties: {ManagedPolicyArns: [!Ref ManagedPolicy]}}
  ManagedPolicy: {Type: AWS::IAM::ManagedPolicy, Properties: {PolicyDocument: `+decrypt+`}}
  ByPolicy: {Type: AWS::IAM::Role}
  NamesIt: {Type: AWS::IAM::ManagedPolicy, Properties: {Roles: [!Ref ByPolicy], PolicyDocument: `+decrypt+`}}
  OfAWS: {Type: AWS::IAM::Role, Properties: {ManagedPolicyArns: [arn:aws:iam::aws:policy/PowerUserAccess]}}
  Elsewhere: {Type: AWS::IAM::Role, Properties: {ManagedPolicyArns: [arn:aws:iam::111122223333:policy/other]}}
  Bounded: {Type: AWS::IAM::Role, Properties: {PermissionsBoundary: !Ref Boundary, ManagedPolicyArns: [!Ref Boundary]}}
  Boundary: {Type: AWS::IAM::ManagedPolicy, Properties: {PolicyDocument: `+decrypt+`}}
  Group: {Type: AWS::IAM::Group, Properties: {Policies: [{PolicyName: p, PolicyDocument: `+decrypt+`}]}}
  Member: {Type: AWS::IAM::User, Properties: {Groups: [!Ref Group]}}
  Added: {Type: AWS::IAM::User}
  Addition: {Type: AWS::IAM::UserToGroupAddition, Properties: {GroupName: !Ref Group, Users: [!Ref Added]}}
  Nothing: {Type: AWS::IAM::User}
`)
	got := map[string]int{}
	for _, kind := range []estate.Kind{estate.KindRole, estate.KindUser} {
		for _, thing := range e.Of(kind) {
			got[thing.LogicalID] = len(e.Principal(thing.ARN).Documents())
		}
	}
	want := map[string]int{
		"Inline": 1, "Attached": 1, "OfRole": 1, "Managed": 1, "ByPolicy": 1, "OfAWS": 1, "Elsewhere": 0, "Bounded": 0, "Member": 1, "Added": 1, "Nothing": 0,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("- want, + got\n%s", diff)
	}
	if all := e.Principal("arn:aws:iam::111122223333:role/Elsewhere").Elsewhere; len(all) != 1 || len(e.NotesOnPrincipals()) != 1 {
		t.Errorf("what is not in the templates is not said: %v", all)
	}
	if slices.Sorted(maps.Keys(e.Identities()))[0] == "" || e.Principal("arn:aws:iam::111122223333:role/nobody") != nil {
		t.Error("somebody who is not there")
	}
}

// TestPolicy shows what of a policy is known: its statements keep their numbers, and what is
// left out says nothing.
func TestPolicy(t *testing.T) {
	statement := func(s string) string {
		return `{Effect: Allow, Principal: "*", Action: kms:Decrypt, Resource: "*"` + s + `}`
	}
	for name, tc := range map[string]struct {
		statements      string
		broken, partial bool
		missing         string
		left            int // statements that say something
	}{
		"all is known":                  {statements: statement("") + "," + statement(""), left: 2},
		"one is not known":              {statements: "!Ref Thing," + statement(""), partial: true, missing: "Thing", left: 1},
		"one is not understood":         {statements: statement(", Conditions: {}") + "," + statement(""), broken: true, partial: true, left: 1},
		"a condition is not known":      {statements: statement(", Condition: !Ref Thing"), missing: "Thing", left: 1},
		"a Deny's condition is unknown": {statements: statement("") + `, {Effect: Deny, Principal: "*", Action: "kms:*", Resource: "*", Condition: !Ref Thing}`, missing: "Thing", left: 1},
		"none is known":                 {statements: "!Ref Thing", partial: true, missing: "Thing", left: 0},
	} {
		t.Run(name, func(t *testing.T) {
			e := read(t, `
Parameters: {Thing: {Type: String}}
Resources: {Key: {Type: AWS::KMS::Key, Properties: {KeyPolicy: {Version: "2012-10-17", Statement: [`+tc.statements+`]}}}}
`)
			p := e.PolicyOf(e.Keys[0].Thing)
			left := 0
			for _, s := range p.Statement {
				if s.ExpandActions() != nil {
					left++
				}
			}
			if (p.Broken != nil) != tc.broken || p.Partial != tc.partial || strings.Join(p.Missing, " ") != tc.missing || left != tc.left {
				t.Errorf("broken %v, partial %v, missing %q, %d left", p.Broken, p.Partial, p.Missing, left)
			}
			if n := len(value.List(value.At(p.Resolved, "Statement"))); n != len(p.Statement) {
				t.Errorf("%d statements, and %d as values", len(p.Statement), n)
			}
		})
	}
}

// TestCases shows that the same question has the same answer in all of a case, and that
// answers which contradict each other are none.
func TestCases(t *testing.T) {
	const head = `
Parameters: {Stage: {Type: String, AllowedValues: [dev, test, prod]}, Key: {Type: String, Default: ""}}
Conditions:
  Prod: !Equals [!Ref Stage, prod]
  Dev: !Equals [dev, !Ref Stage]
  Other: !Not [!Or [!Condition Prod, !Condition Dev]]
  Own: !Equals [!Ref Key, ""]
  Never: !Equals [!Ref Stage, staging]
Resources:
  Key:
    Type: AWS::KMS::Key
    Properties:
`
	for name, tc := range map[string]struct {
		properties string
		want       []string
	}{
		"nothing is open":            {"      EnableKeyRotation: !If [Own, yes, no]", []string{"true"}},
		"one question":               {"      EnableKeyRotation: !If [Prod, yes, no]", []string{"false where Stage is not prod", "true where Stage is prod"}},
		"two that exclude":           {"      EnableKeyRotation: !If [Prod, yes, !If [Dev, no, maybe]]", []string{"false where Stage is dev", "maybe where Stage is not dev and Stage is not prod", "true where Stage is prod"}},
		"one of what is left":        {"      EnableKeyRotation: !If [Other, !If [Prod, a, b], !If [Dev, c, !If [Prod, d, e]]]", []string{"b where Stage is not dev and Stage is not prod", "c where Stage is dev", "d where Stage is prod"}},
		"a value that it can't have": {"      EnableKeyRotation: !If [Never, yes, no]", []string{"false"}},
		"within a text":              {"      EnableKeyRotation: !Sub ['${a}', {a: !If [Prod, yes, no]}]", []string{"false where Stage is not prod", "true where Stage is prod"}},
	} {
		t.Run(name, func(t *testing.T) {
			cases, err := estate.Cases(read(t, head+tc.properties))
			if err != nil {
				t.Fatal(err)
			}
			in := map[string][]int{}
			for i, c := range cases {
				v := value.Show(c.Estates[0].Keys[0].Settings["EnableKeyRotation"])
				in[v] = append(in[v], i)
			}
			var got []string
			for v, where := range in {
				got = append(got, strings.TrimSpace(v+" "+estate.When(cases, func(i int) bool { return slices.Contains(where, i) })))
			}
			slices.Sort(got)
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("- want, + got\n%s", diff)
			}
		})
	}
}

// TestMostQuestions shows that of many questions some are decided, and that a note names one
// that is not.
func TestMostQuestions(t *testing.T) {
	var parameters, conditions, keys strings.Builder
	for _, n := range []string{"A", "B", "C", "D", "E", "F"} {
		parameters.WriteString("  " + n + ": {Type: String}\n")
		conditions.WriteString("  Is" + n + ": !Equals [!Ref " + n + ", yes]\n")
		keys.WriteString("  Key" + n + ": {Type: AWS::KMS::Key, Condition: Is" + n + "}\n")
	}
	cases, err := estate.Cases(read(t, "Parameters:\n"+parameters.String()+"Conditions:\n"+conditions.String()+"Resources:\n"+keys.String()))
	if err != nil {
		t.Fatal(err)
	}
	if len(cases) != 16 {
		t.Errorf("%d cases", len(cases))
	}
	for _, c := range cases {
		if notes := c.Estates[0].Notes; len(notes) != 1 || !strings.Contains(notes[0].Message, "whether E is true was not decided") {
			t.Errorf("notes %v", notes)
		}
		if n := len(c.Estates[0].Keys); n < 2 {
			t.Errorf("%d keys: what is not decided must be there", n)
		}
	}
}

// TestGoldens shows that all is known and understood of the policies in our own templates.
func TestGoldens(t *testing.T) {
	for _, name := range []string{"default", "01_minimal", "02_existing_vpc_and_key", "03_node_group", "04_tenants_and_secrets"} {
		e := estatetest.Estate(t, estatetest.Golden(t, name))
		policies := e.IdentityPolicies()
		for _, kind := range []estate.Kind{estate.KindKey, estate.KindRole, estate.KindBucketPolicy, estate.KindTopicPolicy} {
			for _, thing := range e.Of(kind) {
				policies = append(policies, e.PolicyOf(thing))
			}
		}
		for _, p := range policies {
			if p.Broken != nil || p.Partial || p.Resolved == nil {
				t.Errorf("%s: %s of %s: %v, missing %v", name, p.Name, p.On.Resource, p.Broken, p.Missing)
			}
		}
	}
}
