// Command gen writes ekskms.schema.json. Run it with go generate ./internal/config.
package main

import (
	"fmt"
	"os"

	"github.com/ekskms/ekskms/internal/config/internal/schemagen"
)

func main() {
	out, err := schemagen.Generate()
	if err == nil {
		err = os.WriteFile("ekskms.schema.json", out, 0o644)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "gen:", err)
		os.Exit(1)
	}
}
