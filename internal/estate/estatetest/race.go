//go:build race

package estatetest

// Race tells that the race detector is on, which makes tests ten times slower: what needs
// no second look at races runs without it alone.
const Race = true
