//go:build race

package iampolicy

// race tells that the race detector is on, which makes tests ten times slower.
const race = true
