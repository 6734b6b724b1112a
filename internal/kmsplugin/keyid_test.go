package kmsplugin

import (
	"slices"
	"strings"
	"testing"

	"k8s.io/kms/pkg/util"
)

const (
	exampleARN   = "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"
	exampleMRK   = "arn:aws:kms:eu-central-1:111122223333:key/mrk-1234abcd12ab34cd56ef1234567890ab"
	exampleAlias = "arn:aws:kms:eu-central-1:111122223333:alias/secrets"
)

func TestKeyID(t *testing.T) {
	// Pinned: a change makes every stored object stale, and needs a new version.
	const pinned = "v2:7169bc93f36f352c6de802758de9ed3c:f7e518520a480c92f848c6c775ce0451"
	if got := keyID(exampleARN, "material"); got != pinned {
		t.Errorf("key_id %q, want %q", got, pinned)
	}
	for id, own := range map[string]bool{
		keyID(exampleARN, "a"):                  true,
		keyID(exampleARN, ""):                   true,
		keyID(exampleARN, "") + ":":             false,
		keyID(exampleARN, "a") + ":":            false,
		strings.ToUpper(keyID(exampleARN, "a")): false,
		keyID(exampleARN+"x", "a"):              false,
		"v1" + keyID(exampleARN, "a")[2:]:       true,
		"v3" + keyID(exampleARN, "a")[2:]:       false,
		"":                                      false,
	} {
		if ownKeyID(exampleARN, id) != own {
			t.Errorf("%q: %t", id, !own)
		}
	}
}

// A cluster that is restored beside a replica reads its data under the
// replica's ARN; a single-Region key of another Region is another key.
func TestKeyIDOfMultiRegionKeys(t *testing.T) {
	if keyID(exampleMRK, "m") != keyID(inRegion(exampleMRK, otherRegion), "m") {
		t.Error("a replica has another key_id")
	}
	if keyID(exampleARN, "m") == keyID(inRegion(exampleARN, otherRegion), "m") {
		t.Error("two keys share a key_id")
	}
	if keyID(exampleMRK, "m") == keyID(strings.Replace(exampleMRK, "111122223333", "444455556666", 1), "m") {
		t.Error("the keys of two accounts share a key_id")
	}
}

func TestLegacyNames(t *testing.T) {
	for _, c := range []struct {
		id, arn string
		want    []string
	}{
		{exampleARN, exampleARN, []string{exampleARN, "1234abcd-12ab-34cd-56ef-1234567890ab", "alias/extra"}},
		{exampleAlias, exampleARN, []string{exampleAlias, "alias/secrets", exampleARN, "1234abcd-12ab-34cd-56ef-1234567890ab", "alias/extra"}},
	} {
		got := legacyNames(c.id, c.arn, []string{"alias/extra"})
		slices.Sort(c.want)
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, want %q", c.id, got, c.want)
		}
	}
}

// The API server's own parser takes our socket addresses.
func TestSocketAddressIsTheAPIServers(t *testing.T) {
	path, err := socketPath(defaultListen)
	mustf(t, err, "%s", defaultListen)
	if got, err := util.ParseEndpoint(defaultListen); err != nil || got != path {
		t.Errorf("the API server reads %q, %v", got, err)
	}
}
