package ekskms

import (
	"embed"

	"github.com/ekskms/ekskms/internal/buildcontext"
)

// A file can be embedded from its own folder and below only, so the sources of the
// plugin's image are embedded here and handed down.
//
//go:embed Dockerfile go.mod go.sum cmd/kms-plugin internal/kmsplugin internal/hint
var sources embed.FS

func init() { buildcontext.Sources = sources }
