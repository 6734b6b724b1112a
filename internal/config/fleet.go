package config

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/ekskms/ekskms/internal/blueprint"
	"github.com/ekskms/ekskms/internal/place"
)

// nameClusters finds the names of several clusters, for the faults that they have.
func (d *decoder) nameClusters(root *yaml.Node) {
	clusters := entry(root, "clusters")
	if clusters == nil || len(clusters.Content) < 2 {
		return
	}
	for _, c := range clusters.Content {
		name := ""
		if n := entry(c, "name"); n != nil && n.Kind == yaml.ScalarNode {
			name = n.Value
		}
		d.names = append(d.names, name)
	}
}

// fleet checks what lies between clusters.
func (d *decoder) fleet(file *File) {
	first := map[string]*yaml.Node{}
	for i, c := range file.Clusters {
		at := fmt.Sprintf("clusters[%d].name", i)
		if !d.ok(at) {
			continue
		}
		if other := first[c.Name]; other != nil {
			d.faultAt(at, "is the name of another cluster, on %s: in one file each has its own, as its stack has", d.line(other))
			continue
		}
		first[c.Name] = d.nodes[at]
	}
	if file.Shared == nil && len(file.Clusters) > 1 {
		file.Shared = &Shared{}
		empty := d.origins.like(&yaml.Node{Kind: yaml.MappingNode}, d.nodes["clusters"])
		d.object(empty, "shared", reflect.ValueOf(file.Shared).Elem())
	}
	if file.Shared != nil {
		d.shared(file)
	}
	d.sharedVPC(file)
	d.waves(file, first)
}

// sharedVPC is that of clusters which ask for it.
func (d *decoder) sharedVPC(file *File) {
	asked := false
	for i, c := range file.Clusters {
		at := fmt.Sprintf("clusters[%d].vpc.shared", i)
		asked = asked || c.VPC.Shared
		switch {
		case !c.VPC.Shared:
		case file.Shared == nil:
			d.faultAt(at, "needs several clusters, or shared beside clusters: a cluster alone has a VPC of its own")
		case file.Shared.VPC == nil:
			file.Shared.VPC = &SharedVPC{CIDR: blueprint.DefaultCIDR, NATGateways: blueprint.NATGateways.Default}
		case file.Shared.VPC.Isolated && place.Partition(c.Region) == "aws-cn":
			d.faultAt(at, "is in an isolated VPC, which is not supported in China: make the VPC with its endpoints yourself, and give id and subnetIds")
		}
	}
	if file.Shared == nil || file.Shared.VPC == nil {
		return
	}
	const at = "shared.vpc"
	v := file.Shared.VPC
	if n := at + ".natGateways"; d.ok(n) && v.NATGateways > blueprint.DefaultZones {
		d.faultAt(n, "must be at most one for each of the %d Availability Zones", blueprint.DefaultZones)
	}
	switch {
	case !asked && d.ok(at):
		d.faultAt(at, "is the VPC of no cluster: write vpc: {shared: true} in those that it is for, or in the defaults")
	case !v.Isolated && v.NATGateways == 0 && !d.bad[at]:
		v.NATGateways = blueprint.NATGateways.Default // which isolated takes away
	}
}

// ofRecord are the fields of a cluster's audit that are those of the shared record.
var ofRecord = []string{"trailArn", "retentionDays", "cloudWatchLogsRetentionDays", "emails", "readers"}

// shared checks what clusters share, and what they must not have alone then.
func (d *decoder) shared(file *File) {
	type at struct{ account, region, alias string }
	aliases := map[at]int{}
	accounts := map[string][]string{} // Regions
	for i, c := range file.Clusters {
		path := fmt.Sprintf("clusters[%d]", i)
		for _, field := range ofRecord {
			if p := path + ".audit." + field; d.ok(p) {
				d.faultAt(p, "is for a cluster alone, and this one shares its record: write it under shared.audit")
			}
		}
		if p := path + ".audit.topicArn"; d.ok(p) {
			d.faultAt(p, "is for a cluster alone: clusters that share their record have a new topic in each account and Region, remove it")
		}
		if name := path + ".name"; d.ok(name) && ofStacks.MatchString(c.Name) {
			d.faultAt(name, "is like the name of a shared stack, must be another")
		}
		if slices.Contains([]string{place.AuditAlias(place.Shared), place.AlarmsAlias(place.Shared)}, c.Key.Alias) {
			d.faultAt(path+".key.alias", "is the alias of a shared key, must be a different one")
		}
		if first := slices.IndexFunc(file.Clusters, func(o Cluster) bool { return o.Account == c.Account && o.Region == c.Region }); file.Clusters[first].CDK != c.CDK {
			d.faultAt(path+".cdk", "is another than that of cluster %s, which shares its stacks in that account and Region: give both the same", file.Clusters[first].Name)
		}
		where := at{c.Account, c.Region, c.Key.Alias}
		if other, found := aliases[where]; found && c.Key.Alias != "" && c.Name != file.Clusters[other].Name {
			d.faultAt(path+".key.alias", "is the alias of the key of cluster %s, in the same account and Region: give each its own", file.Clusters[other].Name)
		} else {
			aliases[where] = i
		}
		file.Clusters[i].Audit.RetentionDays = 0
		accounts[c.Account] = append(accounts[c.Account], c.Region)
		const trail = "shared.audit.trailArn"
		if arn, ok := place.ParseARN(file.Shared.Audit.TrailARN); ok && d.ok(trail) && c.Region != "" && arn.Partition != place.Partition(c.Region) {
			d.faultAt(trail, "is in the partition %s, and cluster %s in %s: a trail is for one partition", arn.Partition, c.Name, place.Partition(c.Region))
		}
	}
	if k := file.Shared.KeyAccount; k != nil && d.ok("shared.keyAccount.account") {
		accounts[k.Account] = d.keyAccount(file, k.Account)
	}
	for _, account := range slices.Sorted(maps.Keys(file.Shared.HomeRegions)) {
		p, region := join("shared.homeRegions", account), file.Shared.HomeRegions[account]
		if d.ok(p) && !slices.Contains(accounts[account], region) {
			d.faultAt(p, "is a Region in which account %s has no cluster here: the trail is made in a shared stack of its clusters", account)
		}
	}
}

// keyAccount gives the clusters their keys in the central account, and returns its Regions.
func (d *decoder) keyAccount(file *File, account string) (regions []string) {
	const at = "shared.keyAccount.account"
	aliases, partition := map[[2]string]string{}, ""
	for i := range file.Clusters {
		c, path := &file.Clusters[i], fmt.Sprintf("clusters[%d]", i)
		switch {
		case c.Key.ARN != "" || d.bad[path+".region"] || d.bad[path+".account"]:
			continue
		case c.Region == "":
			d.fault(d.nodes[path], path+".region", "", "is required, and account too, since the key is in account %s: its policy names both", account)
			continue
		case c.Account == account:
			d.faultAt(at, "is the account of cluster %s: give the keys an account of their own", c.Name)
			return nil
		case partition != "" && partition != place.Partition(c.Region):
			d.faultAt(at, "is in one partition, and clusters are in %s and %s: use a file for each partition", partition, place.Partition(c.Region))
			return nil
		}
		partition = place.Partition(c.Region)
		if !slices.Contains(regions, c.Region) {
			regions = append(regions, c.Region)
		}
		alias := [2]string{c.Region, c.Key.Alias}
		if other := aliases[alias]; other != "" {
			d.faultAt(path+".key.alias", "is the alias of the key of cluster %s, in the same Region of account %s: give each its own", other, account)
		}
		aliases[alias] = c.Name
		c.Key.Central = account
	}
	return regions
}

// UseOutputs takes the ARNs of central keys from what the CDK CLI wrote of the outputs of
// their stacks. An output that is no such key is an error.
func (f *File) UseOutputs(name string, data []byte) error {
	var stacks map[string]map[string]string
	if err := json.Unmarshal(data, &stacks); err != nil {
		return fmt.Errorf("%s is not what npx cdk deploy --outputs-file writes, a JSON object of stacks with their outputs", name)
	}
	for _, clusters := range [][]Cluster{f.Clusters, f.All} {
		for i := range clusters {
			c := &clusters[i]
			if c.Key.Central == "" {
				continue
			}
			stack, output := place.KeysStack(c.Key.Central, c.Region), place.KeyOutput(c.Name)
			arn, found := stacks[stack][output]
			if !found {
				continue
			}
			if p, ok := place.ParseARN(arn); !ok || p.Service != "kms" || p.AccountID != c.Key.Central || p.Region != c.Region || !strings.HasPrefix(p.Resource, "key/") {
				return fmt.Errorf("%s: output %s of stack %s is %q, which is no key in account %s and Region %s: deploy that stack again with --outputs-file", name, output, stack, arn, c.Key.Central, c.Region)
			}
			c.Key.CentralARN = arn
		}
	}
	return nil
}

// Waiting are the names of the clusters whose keys are not known yet.
func (f *File) Waiting() (names []string) {
	for _, c := range f.Clusters {
		if c.Waits() {
			names = append(names, c.Name)
		}
	}
	return names
}

// Waits tells that the cluster's key is in a central account and not known yet.
func (c Cluster) Waits() bool { return c.Key.Central != "" && c.Key.CentralARN == "" }

// KeyEnvironments are the Regions of the central account with keys. Their Clusters are those
// whose keys are there.
func (f *File) KeyEnvironments() (found []*Environment) {
	if f.Shared == nil || f.Shared.KeyAccount == nil {
		return nil
	}
	account := f.Shared.KeyAccount.Account
	all := f.All
	if all == nil {
		all = f.Clusters
	}
	for _, c := range all {
		if c.Key.Central == "" {
			continue
		}
		i := slices.IndexFunc(found, func(e *Environment) bool { return e.Region == c.Region })
		if i < 0 {
			i = len(found)
			home := f.Shared.HomeRegions[account]
			if len(found) > 0 {
				home = cmp.Or(home, found[0].Region)
			}
			found = append(found, &Environment{Account: account, Region: c.Region, HomeRegion: cmp.Or(home, c.Region), Keys: true})
		}
		found[i].Clusters = append(found[i].Clusters, c)
		found[i].Chosen = found[i].Chosen || slices.ContainsFunc(f.Clusters, func(o Cluster) bool { return o.Name == c.Name })
	}
	for _, e := range found {
		e.Records = true
	}
	return found
}

// ofStacks are the names of clusters whose stacks would have the names of shared ones.
var ofStacks = regexp.MustCompile(`^(shared|alarms|keys|network)(-[0-9]{12}-.*)?$`)

func (d *decoder) waves(file *File, first map[string]*yaml.Node) {
	if len(file.Waves) == 0 || d.bad["waves"] || d.bad["clusters"] {
		return
	}
	names := map[string]*yaml.Node{}
	for i, w := range file.Waves {
		at := fmt.Sprintf("waves[%d]", i)
		if other := names[w.Name]; other != nil {
			d.faultAt(at+".name", "is the name of another wave, on %s: give each its own", d.line(other))
		}
		names[w.Name] = d.nodes[at+".name"]
		for j, name := range w.Clusters {
			named := fmt.Sprintf("%s.clusters[%d]", at, j)
			switch {
			case first[name] == nil:
				d.faultAt(named, "is no cluster of this file%s", didYouMean(name, slices.Sorted(maps.Keys(first))))
			case slices.ContainsFunc(file.Waves[:i], func(w Wave) bool { return slices.Contains(w.Clusters, name) }):
				d.faultAt(named, "is in an earlier wave already: a cluster is in one")
			}
		}
		if !slices.Contains(file.WavesOfClusters(), i) && !d.bad[at] {
			d.fault(d.nodes[at], at, "", "has no cluster: name some that are in no earlier wave, or labels that they have")
		}
	}
	for i, wave := range file.WavesOfClusters() {
		if wave < 0 {
			at := fmt.Sprintf("clusters[%d]", i)
			d.fault(d.nodes[at], at, "", "is in no wave: with waves, each cluster is in one")
		}
	}
}

func didYouMean(name string, names []string) string {
	if near := nearest(name, names); near != "" {
		return ", did you mean " + near + "?"
	}
	return ": there are " + shorten(strings.Join(names, ", "))
}

// WavesOfClusters are the indexes of the waves of the clusters, -1 for a cluster in none.
// One that a wave names is there, any other is in the first whose labels it has.
func (f *File) WavesOfClusters() []int {
	all := make([]int, len(f.Clusters))
	for i, c := range f.Clusters {
		all[i] = slices.IndexFunc(f.Waves, func(w Wave) bool { return slices.Contains(w.Clusters, c.Name) })
		if all[i] < 0 {
			all[i] = slices.IndexFunc(f.Waves, func(w Wave) bool { return len(w.Labels) > 0 && c.has(w.Labels) })
		}
	}
	return all
}

func (c Cluster) has(labels map[string]string) bool {
	for key, value := range labels {
		if c.Labels[key] != value {
			return false
		}
	}
	return true
}

// Only is the file with the clusters that one of the selectors names: by the name, or
// by a label as key=value. Without a selector it is the whole file.
func (f *File) Only(selectors ...string) (*File, error) {
	if len(selectors) == 0 {
		return f, nil
	}
	chosen := make([]bool, len(f.Clusters))
	for _, s := range selectors {
		key, value, isLabel := strings.Cut(s, "=")
		found := false
		for i, c := range f.Clusters {
			if !isLabel && c.Name == s || isLabel && c.Labels[key] == value && value != "" {
				chosen[i], found = true, true
			}
		}
		if found {
			continue
		}
		var have []string
		for _, c := range f.Clusters {
			have = append(have, c.Name)
			for key, value := range c.Labels {
				have = append(have, key+"="+value)
			}
		}
		slices.Sort(have)
		return nil, fmt.Errorf("--only is %q, which is neither the name nor a label of a cluster%s", s, didYouMean(s, slices.Compact(have)))
	}
	some := *f
	some.All, some.Clusters = f.Clusters, nil
	for i, c := range f.Clusters {
		if chosen[i] {
			some.Clusters = append(some.Clusters, c)
		}
	}
	return &some, nil
}

// Environment is an account and a Region with clusters. Both are empty for those of the
// credentials that deploy.
type Environment struct {
	Account, Region string
	// HomeRegion is that of the account's trail, or of none that is made.
	HomeRegion string
	// Clusters are all that are there, and Chosen tells whether one of them is meant.
	Clusters []Cluster
	Chosen   bool
	// Records tells whether the trail of one that is meant is there.
	Records bool
	// Keys tells that their keys are here, and not the clusters.
	Keys bool
	// Network tells whether one that is meant is in the shared VPC.
	Network bool
}

// Environments are the accounts and Regions of the clusters that share a record, in the
// order of the file, or none.
func (f *File) Environments() []*Environment {
	if f.Shared == nil {
		return nil
	}
	all := f.All
	if all == nil {
		all = f.Clusters
	}
	var found []*Environment
	homes := map[string]string{}
	for _, c := range all {
		if homes[c.Account] == "" {
			homes[c.Account] = cmp.Or(f.Shared.HomeRegions[c.Account], c.Region)
		}
		i := slices.IndexFunc(found, func(e *Environment) bool { return e.Account == c.Account && e.Region == c.Region })
		if i < 0 {
			i = len(found)
			found = append(found, &Environment{Account: c.Account, Region: c.Region, HomeRegion: homes[c.Account]})
		}
		found[i].Clusters = append(found[i].Clusters, c)
		chosen := slices.ContainsFunc(f.Clusters, func(o Cluster) bool { return o.Name == c.Name })
		found[i].Chosen = found[i].Chosen || chosen
		found[i].Network = found[i].Network || chosen && c.VPC.Shared
	}
	for _, home := range found {
		home.Records = slices.ContainsFunc(found, func(e *Environment) bool {
			return e.Chosen && e.Account == home.Account && e.HomeRegion == home.Region
		})
	}
	return found
}
