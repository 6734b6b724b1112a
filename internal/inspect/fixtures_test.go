package inspect

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite the files of testdata")

// TestFixtures: the files of testdata, which the scripts of test/script inspect,
// are what a builder that anyone can read makes of them.
func TestFixtures(t *testing.T) {
	for name, content := range map[string][]byte{
		"migrating.db": migrating(t),
		"migrated.db":  migrated(t),
		"secret.value": []byte(encrypted("kms-plugin", newKey) + "\n"),
	} {
		path := filepath.Join("testdata", name)
		if *update {
			if err := os.MkdirAll("testdata", 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, content, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(content, want) {
			t.Errorf("%s is not what the test builds: rewrite it with -update", path)
		}
	}
}

// cluster puts a few objects of several resources.
func cluster(t *testing.T) *etcd {
	e := newEtcd(t)
	e.put(
		"compact_rev_key", "1",
		"/registry/namespaces/default", clearProtobuf,
		"/registry/configmaps/default/settings", clearProtobuf,
		"/registry/services/specs/default/kubernetes", clearProtobuf,
	)
	for _, name := range []string{"api", "db", "mail", "oidc", "smtp", "tls"} {
		e.put("/registry/secrets/default/"+name, clearProtobuf)
	}
	e.put("/registry/example.com/widgets/default/w", clearJSON)
	return e
}

// migrating is in the middle of a migration: something of each kind is left.
func migrating(t *testing.T) []byte {
	e := cluster(t)
	e.put("/registry/secrets/default/api", encrypted("kms-plugin", oldKey))
	e.put("/registry/secrets/default/db", "k8s:enc:aescbc:v1:key1:"+strings.Repeat("x", 32))
	e.compact()
	e.put("/registry/secrets/default/api", encrypted("kms-plugin", newKey))
	e.put("/registry/secrets/default/mail", encrypted("kms-plugin", oldKey))
	e.put("/registry/secrets/default/oidc", encrypted("kms-plugin", newKey))
	return e.snapshot()
}

// migrated is at its end: secrets were written again, etcd compacted and
// defragmented.
func migrated(t *testing.T) []byte {
	e := cluster(t)
	for _, name := range []string{"api", "db", "mail", "oidc", "smtp", "tls"} {
		e.put("/registry/secrets/default/"+name, encrypted("kms-plugin", newKey))
	}
	e.compact()
	e.defragment()
	return e.snapshot()
}
