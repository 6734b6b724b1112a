//go:build !unix

package synth

// The rights to a folder are not read here: nothing is kept but what jsii itself keeps.
const judges = false

func private(string) bool { return false }
