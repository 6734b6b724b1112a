package config

import (
	"slices"

	"github.com/ekskms/ekskms/internal/place"
)

// Places are the environments that have shared stacks: those of clusters that are meant,
// those of their keys, and those with the trails of either.
func (f *File) Places() (all []*Environment) {
	for _, e := range f.Environments() {
		if e.Chosen || e.Records {
			all = append(all, e)
		}
	}
	keys := f.KeyEnvironments()
	for _, e := range keys {
		if e.Chosen || e.Records && slices.ContainsFunc(keys, func(o *Environment) bool { return o.Chosen && o.HomeRegion == e.Region }) {
			all = append(all, e)
		}
	}
	return all
}

// Watched are the clusters on whose keys there are alarms here: none whose key is in another
// place and not known yet.
func (e *Environment) Watched() (all []Cluster) {
	for _, c := range e.Clusters {
		if e.Chosen && (e.Keys || !c.Waits()) {
			all = append(all, c)
		}
	}
	return all
}

// Need is a stack that is deployed after another.
type Need struct{ Stack, On, Why string }

// Needs are the dependencies of the stacks.
func (f *File) Needs() (all []Need) {
	add := func(stack, on, why string) { all = append(all, Need{stack, on, why}) }
	places := f.Places()
	at := func(account, region string) int {
		return slices.IndexFunc(places, func(e *Environment) bool { return e.Account == account && e.Region == region })
	}
	keys := map[string]string{} // stacks with central ones, by Region
	for _, e := range places {
		if e.Keys && e.Chosen {
			keys[e.Region] = place.KeysStack(e.Account, e.Region)
			add(keys[e.Region], place.SharedStack(e.Account, e.Region), "on record from the first day")
		}
	}
	waves := f.WavesOfClusters()
	last := make([]int, len(places)) // wave of each place
	here := make([][]Cluster, len(places))
	for i, c := range f.Clusters {
		if e := at(c.Account, c.Region); e >= 0 {
			last[e] = max(last[e], waves[i])
			here[e] = append(here[e], c)
		}
	}
	for i, e := range places {
		shared, alarms := place.SharedStack(e.Account, e.Region), place.AlarmsStack(e.Account, e.Region)
		// A trail of the account covers this Region too.
		if home := at(e.Account, e.HomeRegion); home >= 0 && home != i {
			add(shared, place.SharedStack(e.Account, e.HomeRegion), "the trail is there")
		}
		if len(e.Watched()) == 0 {
			continue
		}
		add(alarms, shared, "the topic is there")
		if e.Keys {
			add(alarms, keys[e.Region], "the keys are there")
		}
		for _, c := range here[i] {
			if c.Waits() {
				continue
			}
			add(place.Stack(c.Name), shared, "on record from the first day")
			if c.VPC.Shared {
				add(place.Stack(c.Name), place.NetworkStack(e.Account, e.Region), "the VPC is there")
			}
			add(alarms, place.Stack(c.Name), "the keys are there")
		}
	}
	// Each wave waits for the one before it: for its clusters, and the alarms on them where
	// all of theirs are there by then.
	byWave := map[int][]string{}
	for i, c := range f.Clusters {
		if !c.Waits() {
			byWave[waves[i]] = append(byWave[waves[i]], place.Stack(c.Name))
		}
	}
	for i, e := range places {
		if len(e.Watched()) > 0 {
			byWave[last[i]] = append(byWave[last[i]], place.AlarmsStack(e.Account, e.Region))
		}
	}
	for i, c := range f.Clusters {
		if c.Waits() {
			continue
		}
		if stack := keys[c.Region]; stack != "" && c.Key.Central != "" {
			add(place.Stack(c.Name), stack, "the key is there")
		}
		before := -1 // of which there may be a part
		for _, w := range waves {
			if w < waves[i] {
				before = max(before, w)
			}
		}
		if before < 0 {
			continue
		}
		for _, stack := range byWave[before] {
			add(place.Stack(c.Name), stack, "wave "+f.Waves[before].Name)
		}
	}
	return all
}
