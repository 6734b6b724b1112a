package verify

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/ekskms/ekskms/internal/cfn"
	"github.com/ekskms/ekskms/internal/finding"
	"github.com/ekskms/ekskms/internal/live"
	"github.com/ekskms/ekskms/internal/value"
)

// part is a template of what runs.
type part struct {
	account, region, file string
	resources, parameters map[string]any
	lines                 map[string]int
}

// assembly is what runs, as templates. asWanted takes what could not be read to be as it is
// wanted, where that is said.
func (v *verification) assembly(asWanted bool) (*cfn.Assembly, error) {
	parts := map[string]*part{}
	in := func(name, account, region, file string) *part {
		if parts[name] == nil {
			parts[name] = &part{account, region, file, map[string]any{}, map[string]any{}, map[string]int{}}
		}
		return parts[name]
	}
	put := func(want *cfn.Resource, properties map[string]any, metadata map[string]any) {
		p := in(want.Template.Name, want.Template.Account, want.Template.Region, want.Template.File)
		all := maps.Clone(want.Metadata)
		if all == nil {
			all = map[string]any{}
		}
		delete(all, cfn.ARNMetadata) // its values have the names of the template already
		delete(all, cfn.NamesMetadata)
		maps.Copy(all, metadata)
		all["aws:cdk:path"] = want.Path + "/Resource" // which its reader takes away
		p.resources[want.ID] = map[string]any{
			"Type": want.Type, "Properties": p.written(properties), "Metadata": all, "DeletionPolicy": p.written(policyOf(want.DeletionPolicy)), "UpdateReplacePolicy": p.written(policyOf(want.UpdateReplacePolicy)),
		}
		p.lines[want.ID] = want.Line
	}
	open := map[identity]bool{} // where what runs may be what is wanted
	if v.wanted != nil {
		for _, t := range v.opts.Wanted.Templates {
			in(t.Name, t.Account, t.Region, t.File)
			for _, id := range slices.Sorted(maps.Keys(t.Resources)) {
				want := t.Resources[id]
				switch runs := v.runs[want]; {
				case runs != nil:
					properties, metadata := v.asWanted(want, runs, asWanted)
					put(want, properties, metadata)
				case v.unjudged(want):
					open[identityOf(want.Type, want.Template.Account, want.Template.Region, "")] = true
					put(want, want.Properties, v.physicalNames(want))
				}
			}
		}
	}
	for _, a := range v.accounts {
		for _, r := range a.Resources {
			if v.of[r] != nil {
				v.places[r] = v.of[r].Place()
				continue
			}
			if asWanted && open[identityOf(r.Type, r.Account, r.Region, "")] {
				if strings.HasPrefix(r.Type, "AWS::EKS::") {
					v.note(pathOf(r), "not judged: whether it is one that is wanted")
				}
				continue
			}
			at := spot{r.Account, r.Region}
			p := in(at.String(), at.account, at.region, "aws://"+at.account+"/"+at.region)
			id, path := r.ID, pathOf(r)
			if family(r.Type) != keyType || id == "" {
				id = path // the ID of a key is in its ARN
			}
			for n := 2; p.resources[id] != nil; n++ {
				id = fmt.Sprintf("%s (%d)", path, n)
			}
			p.resources[id] = map[string]any{
				"Type": r.Type, "Properties": p.written(r.Properties), "Metadata": map[string]any{"aws:cdk:path": path},
				// Nothing deletes it with a stack.
				"DeletionPolicy": "Retain", "UpdateReplacePolicy": "Retain",
			}
			v.places[r] = finding.Place{Resource: path, LogicalID: id, Type: r.Type, Stack: at.String(), File: p.file}
		}
	}
	var all []cfn.Part
	for _, name := range slices.Sorted(maps.Keys(parts)) {
		p := parts[name]
		if len(p.resources) == 0 { // nothing of a stack runs, and a template has something
			p.resources["Nothing"] = map[string]any{"Type": "AWS::CloudFormation::WaitConditionHandle"}
		}
		data, err := json.Marshal(map[string]any{"Resources": p.resources, "Parameters": p.parameters})
		if err != nil {
			return nil, err
		}
		all = append(all, cfn.Part{Name: name, Account: p.account, Region: p.region, Data: data})
	}
	var env cfn.Environment
	if v.wanted != nil {
		env.Shared = v.opts.Wanted.Shared
	}
	assembly, err := cfn.ParseAll("the account", all, env)
	if err != nil {
		return nil, err
	}
	for _, t := range assembly.Templates {
		t.File = parts[t.Name].file
		for id, r := range t.Resources {
			r.Line = parts[t.Name].lines[id]
		}
	}
	return assembly, nil
}

// physicalNames are the names that the stack of something gave it, as metadata.
func (v *verification) physicalNames(want *cfn.Resource) map[string]any {
	physical := v.stacks[want.Template.Name].Resources[want.ID]
	if physical == "" {
		return nil
	}
	metadata := map[string]any{}
	if arn := physicalARN(want, physical); arn != want.ARN {
		metadata[cfn.ARNMetadata] = arn
	}
	if physical != givenName(want) && !strings.HasPrefix(physical, "arn:") {
		metadata[cfn.NamesMetadata] = []any{physical}
	}
	return metadata
}

// policyOf is a DeletionPolicy as a value.
func policyOf(text string) any {
	if text == "" {
		return nil
	}
	return text
}

// asWanted are the properties of what runs, in the place of what is wanted: those that were
// read, and of what can't be read what is wanted.
func (v *verification) asWanted(want *cfn.Resource, runs []*live.Resource, fill bool) (properties, metadata map[string]any) {
	run := runs[0]
	properties = maps.Clone(want.Properties)
	if properties == nil {
		properties = map[string]any{}
	}
	metadata = map[string]any{}
	if family(want.Type) == inlineType {
		for _, of := range holders {
			delete(properties, of.all)
			var names []any
			for _, r := range runs {
				if name := r.Properties[of.one]; name != nil {
					names = append(names, name)
				}
			}
			switch {
			case names == nil:
			case want.Type == inlineType:
				properties[of.all] = names
			default:
				properties[of.one] = names[0]
			}
		}
		properties["PolicyDocument"] = run.Properties["PolicyDocument"]
		return properties, metadata
	}
	if want.Type == "Custom::AWSCDK-EKS-Cluster" {
		properties["Config"] = lowered(run.Properties)
	} else {
		for name, read := range run.Properties {
			if _, not := read.(live.Unread); not && fill || v.same(want.Template, name, properties[name], run, read) {
				continue
			}
			if properties[name] = read; read == nil {
				delete(properties, name)
			}
		}
	}
	if inline := v.within[want]; inline != nil {
		var all []any
		for _, r := range inline {
			all = append(all, map[string]any{"PolicyName": r.Properties["PolicyName"], "PolicyDocument": r.Properties["PolicyDocument"]})
		}
		properties["Policies"] = all
	}
	if run.ARN != "" && run.ARN != want.ARN {
		metadata[cfn.ARNMetadata] = run.ARN
	}
	// A name that CloudFormation made up is in no template.
	k, _ := kindOf(want.Type)
	switch {
	case k.name != "" && want.Properties[k.name] == nil:
		if name := known(properties[k.name]); name != "" {
			metadata[cfn.NamesMetadata] = []any{name}
		}
		delete(properties, k.name)
	case family(want.Type) == keyType && run.ID != "", want.Type == "AWS::SQS::Queue":
		metadata[cfn.NamesMetadata] = []any{run.ID}
	}
	return properties, metadata
}

// keyNames are the properties that name keys, by ID, ARN or alias.
var keyNames = []string{"TargetKeyId", "KMSKeyId", "KmsMasterKeyId", "KmsKeyId"}

// same tells whether what was read of a property is what is wanted, in other words.
func (v *verification) same(from *cfn.Template, name string, want any, run *live.Resource, read any) bool {
	if name == "EventSelectors" && want == nil {
		// What CloudTrail says of a trail for which nobody chose selectors.
		return reflect.DeepEqual(normal(read), normal([]any{map[string]any{"ReadWriteType": "All", "IncludeManagementEvents": true}}))
	}
	if want == nil || read == nil {
		return false
	}
	kind := ""
	if slices.Contains(keyNames, name) {
		kind = keyType
	}
	if text, ok := read.(string); ok {
		token := v.wantedToken(from, kind, want)
		return strings.Contains(token, "\n") && token == v.runningToken(kind, run, text)
	}
	return reflect.DeepEqual(normal(want), normal(read))
}

// lowered writes properties as the API of EKS has them.
func lowered(v any) any {
	switch v := v.(type) {
	case map[string]any:
		out := map[string]any{}
		for name, below := range v {
			if below != nil {
				out[strings.ToLower(name[:1])+name[1:]] = lowered(below)
			}
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i, below := range v {
			out[i] = lowered(below)
		}
		return out
	}
	return v
}

// unjudged tells that it is not known whether something that is wanted runs.
func (v *verification) unjudged(want *cfn.Resource) bool {
	k, read := kindOf(want.Type)
	if !read || v.closed[spot{want.Template.Account, want.Template.Region}] {
		return true
	}
	if v.stackMissing(want.Template.Name) {
		return false
	}
	if v.unreadOf(want, k) {
		return true
	}
	// What has no name that is known is found by what its stack says.
	if stack := v.stacks[want.Template.Name]; len(stack.Unread) > 0 && (k.by == nil || k.name != "") && givenName(want) == "" {
		return true
	}
	if !v.opts.Stacks && v.nameless(want) {
		return true
	}
	// A part of something that is not known is not known.
	return slices.ContainsFunc(k.by, func(by [2]string) bool {
		of := v.wantedOf(want.Template, by[1], firstOf(want.Properties[by[0]]))
		return of != nil && v.runs[of] == nil && v.unjudged(of) || of == nil && value.IsOpen(firstOf(want.Properties[by[0]]))
	})
}

// nameless tells that nothing says which thing of the account something is.
func (v *verification) nameless(want *cfn.Resource) bool {
	k, _ := kindOf(want.Type)
	return knownARN(want) == "" && givenName(want) == "" && (k.by == nil || k.name != "")
}

func firstOf(of any) any {
	if list := value.List(of); len(list) > 0 {
		return list[0]
	}
	return of
}

// written is a value as a template has it: what is not known is a parameter.
func (p *part) written(of any) any {
	parameter := func(name string) any {
		name = strings.NewReplacer("{", "(", "}", ")").Replace(name)
		p.parameters[name] = map[string]any{"Type": "String"}
		return map[string]any{"Ref": name}
	}
	switch of := of.(type) {
	case live.Unread:
		return parameter(of.String())
	case value.Unknown:
		return parameter(of.Expression)
	case string:
		return strings.ReplaceAll(of, "{{resolve:", "{{ resolve:")
	case []any:
		list := make([]any, len(of))
		for i, e := range of {
			list[i] = p.written(e)
		}
		return list
	case map[string]any:
		m := map[string]any{}
		for name, e := range of {
			if e != nil {
				m[name] = p.written(e)
			}
		}
		return m
	}
	return of
}

// pathOf names a thing for a reader.
func pathOf(r *live.Resource) string {
	words := map[string]string{
		clusterType: "cluster", keyType: "key", "AWS::KMS::ReplicaKey": "key", "AWS::CloudTrail::Trail": "trail", "AWS::Events::Rule": "rule", topicType: "topic",
		"AWS::S3::Bucket": "bucket", "AWS::IAM::Role": "role", "AWS::IAM::User": "user", "AWS::IAM::Group": "group", "AWS::KMS::Alias": "alias", "AWS::Logs::LogGroup": "log group",
		"AWS::SNS::Subscription": "subscription", "AWS::EKS::AccessEntry": "access entry", "AWS::EKS::PodIdentityAssociation": "association",
	}
	if holder, policy, ok := strings.Cut(r.ID, "|"); ok && family(r.Type) == inlineType {
		return "policy " + policy + " of " + holder
	}
	word := words[r.Type]
	if word == "" {
		word = r.Type
	}
	id := r.ID
	switch r.Type {
	case topicType, "AWS::IAM::ManagedPolicy":
		id = id[strings.LastIndexAny(id, ":/")+1:]
	case "AWS::SNS::Subscription":
		id = fmt.Sprintf("%v %v", r.Properties["Protocol"], r.Properties["Endpoint"])
	case "AWS::KMS::Alias":
		return id // alias/name
	case "AWS::EKS::PodIdentityAssociation":
		id = fmt.Sprintf("%v/%v", r.Properties["Namespace"], r.Properties["ServiceAccount"])
	}
	return word + " " + id
}

// missing finds what is wanted and does not run.
func (v *verification) missing() {
	told := map[string]bool{}
	for _, f := range v.report.Findings {
		told[f.Stack+"\n"+f.LogicalID] = true
	}
	for _, t := range v.opts.Wanted.Templates {
		if v.stackMissing(t.Name) && len(t.Resources) > 0 {
			v.find("stack-missing", finding.Place{Resource: t.Name, Stack: t.Name, File: t.File, Type: "AWS::CloudFormation::Stack"}, "the stack %s is not deployed in account %s in %s", t.Name, t.Account, t.Region)
			continue
		}
		for _, id := range slices.Sorted(maps.Keys(t.Resources)) {
			want := t.Resources[id]
			if _, read := kindOf(want.Type); read && v.runs[want] == nil && !v.unjudged(want) && !told[t.Name+"\n"+id] {
				v.find("missing", want.Place(), "it is not in the account")
			}
		}
	}
}

// differences finds what differs from what is wanted and that the comparison has no rule for.
func (v *verification) differences(told map[string]bool) {
	things := map[string]*cfn.Resource{}
	for _, t := range v.nowAssembly.Templates {
		for id, r := range t.Resources {
			things[t.Name+"\n"+id] = r
		}
	}
	for _, t := range v.opts.Wanted.Templates {
		for _, id := range slices.Sorted(maps.Keys(t.Resources)) {
			want, runs := t.Resources[id], v.runs[t.Resources[id]]
			now := things[t.Name+"\n"+id]
			if runs == nil || now == nil || want.Type == "Custom::AWSCDK-EKS-Cluster" {
				continue
			}
			for _, name := range slices.Sorted(maps.Keys(runs[0].Properties)) {
				if told[t.Name+"\n"+id+"\n"+name] {
					continue
				}
				a, b := want.Properties[name], now.Properties[name]
				if a == nil || hasOpen(a) || hasOpen(b) || within(normal(a), normal(b)) {
					continue
				}
				v.find("differs", want.Place(), "%s", difference(name, a, b))
			}
		}
	}
	for _, account := range v.accounts {
		for _, run := range account.Resources {
			if holder := v.holderOf(run); holder != nil && v.of[run] == nil {
				v.find("differs", holder.Place(), "it has the inline policy %v, which is not wanted", run.Properties["PolicyName"])
			}
		}
	}
}

// within tells whether all that is wanted of a value runs.
func within(want, run any) bool {
	switch want := want.(type) {
	case map[string]any:
		of, _ := run.(map[string]any)
		for name, v := range want {
			if !within(v, of[name]) {
				return false
			}
		}
		return true
	case []any:
		of, ok := run.([]any)
		if !ok || len(of) != len(want) {
			return false
		}
		for _, v := range want {
			if !slices.ContainsFunc(of, func(r any) bool { return within(v, r) }) {
				return false
			}
		}
		return true
	}
	return reflect.DeepEqual(want, run)
}

// difference says how two values of a property differ. Policies and patterns are long: their
// statements are named.
func difference(name string, want, run any) string {
	if run == nil {
		return name + " is not set, and is wanted"
	}
	plain := func(v any) bool {
		_, isMap := v.(map[string]any)
		return !isMap
	}
	if list, _ := want.([]any); plain(want) && !slices.ContainsFunc(list, func(v any) bool { return !plain(v) }) {
		return fmt.Sprintf("%s is %s, and %s is wanted", name, value.Show(run), value.Show(want))
	}
	statements := func(v any) (all []string) {
		for _, s := range value.List(value.At(v, "Statement")) {
			text, _ := json.Marshal(normal(s))
			all = append(all, string(text))
		}
		return all
	}
	if a, b := statements(want), statements(run); a != nil && b != nil {
		more, less := 0, 0
		for _, s := range b {
			if !slices.Contains(a, s) {
				more++
			}
		}
		for _, s := range a {
			if !slices.Contains(b, s) {
				less++
			}
		}
		return fmt.Sprintf("%s has %d statement(s) that are not wanted, and lacks %d", name, more, less)
	}
	var at []string
	paths("", normal(want), normal(run), &at)
	return fmt.Sprintf("%s differs in %s", name, strings.Join(at, ", "))
}

// paths are where two values differ.
func paths(at string, a, b any, all *[]string) {
	x, isMap := a.(map[string]any)
	y, isMap2 := b.(map[string]any)
	if !isMap || !isMap2 {
		if !reflect.DeepEqual(a, b) && at != "" {
			*all = append(*all, at)
		} else if !reflect.DeepEqual(a, b) {
			*all = append(*all, "its items")
		}
		return
	}
	for _, name := range slices.Sorted(maps.Keys(x)) {
		paths(strings.TrimPrefix(at+"."+name, "."), x[name], y[name], all)
	}
}

// hasOpen tells whether something in a value is not known.
func hasOpen(v any) bool {
	switch v := v.(type) {
	case []any:
		return slices.ContainsFunc(v, hasOpen)
	case map[string]any:
		return slices.ContainsFunc(slices.Collect(maps.Values(v)), hasOpen)
	case value.Unknown:
		return true
	case string:
		return value.IsOpen(v) && !strings.Contains(v, "${aws:") // which is a variable of IAM
	}
	return false
}

// normal is a value in one of the forms in which the same can be written: AWS gives back
// lists of one as texts, sorts lists, and numbers as it likes.
func normal(v any) any {
	switch v := v.(type) {
	case []any:
		switch len(v) {
		case 0:
			return nil
		case 1:
			return normal(v[0])
		}
		list := make([]any, len(v))
		for i, e := range v {
			list[i] = normal(e)
		}
		slices.SortFunc(list, func(a, b any) int { return strings.Compare(fmt.Sprint(a), fmt.Sprint(b)) })
		return list
	case map[string]any:
		m := map[string]any{}
		for name, e := range v {
			if e := normal(e); e != nil && name != "Sid" {
				m[name] = e
			}
		}
		if len(m) == 0 {
			return nil
		}
		return m
	case nil:
		return nil
	}
	if text := fmt.Sprint(v); text != "" && text != "false" { // a setting that is off, or not there
		return text
	}
	return nil
}
