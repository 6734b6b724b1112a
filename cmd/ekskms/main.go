// Command ekskms synthesizes EKS clusters with encrypted secrets: see
// `ekskms help`.
package main

import "github.com/ekskms/ekskms/internal/cli"

func main() { cli.Main() }
