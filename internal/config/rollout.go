package config

import (
	"slices"

	"github.com/ekskms/ekskms/internal/place"
)

// Step is a part of a rollout: stacks that are deployed together.
type Step struct {
	Name string
	// Stacks are their names, or patterns as the CDK CLI takes them. What they depend on
	// goes with them.
	Stacks []string
	// Outputs is the file that takes the outputs, if the steps after it need them.
	Outputs string
}

// Rollout is the order in which the stacks are deployed: central keys, then the waves, each
// with the alarms of the places that are complete by then. A step is for one partition,
// since credentials are. The names of the steps beside the waves are such as no wave has.
func (f *File) Rollout() (steps []Step) {
	if environments := f.KeyEnvironments(); len(environments) > 0 {
		step := Step{Name: "central_keys", Outputs: f.Shared.KeyAccount.Outputs}
		for _, e := range environments {
			step.Stacks = append(step.Stacks, place.KeysStack(e.Account, e.Region), place.AlarmsStack(e.Account, e.Region))
		}
		steps = append(steps, step)
	}
	var partitions []string
	last := map[[2]string]int{} // wave of each place
	waves := f.WavesOfClusters()
	for i, c := range f.Clusters {
		if p := place.Partition(c.Region); !slices.Contains(partitions, p) {
			partitions = append(partitions, p)
		}
		waves[i] = max(waves[i], 0) // either each is in one, or there are none
		at := [2]string{c.Account, c.Region}
		last[at] = max(last[at], waves[i])
	}
	names := []string{"all"}
	if len(f.Waves) > 0 {
		names = nil
		for _, w := range f.Waves {
			names = append(names, w.Name)
		}
	}
	for w, name := range names {
		for _, partition := range partitions {
			step := Step{Name: name}
			if len(partitions) > 1 {
				step.Name += "_" + partition
			}
			for i, c := range f.Clusters {
				if waves[i] == w && place.Partition(c.Region) == partition {
					step.Stacks = append(step.Stacks, place.Stack(c.Name))
				}
			}
			if len(step.Stacks) == 0 {
				continue
			}
			for _, e := range f.Environments() {
				if last[[2]string{e.Account, e.Region}] == w && place.Partition(e.Region) == partition {
					step.Stacks = append(step.Stacks, place.AlarmsStack(e.Account, e.Region))
				}
			}
			steps = append(steps, step)
		}
	}
	return steps
}
