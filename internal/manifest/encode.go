package manifest

import (
	"bytes"
	"encoding/json"

	"sigs.k8s.io/yaml"
)

// Maps returns the objects as plain values, as JSON would have them, without
// what only a server fills in: status and the empty creationTimestamp.
func Maps[T any](objs []T) ([]map[string]any, error) {
	out := make([]map[string]any, 0, len(objs))
	for _, o := range objs {
		b, err := json.Marshal(o)
		if err != nil {
			return nil, err
		}
		var m map[string]any
		if err := json.Unmarshal(b, &m); err != nil {
			return nil, err
		}
		delete(m, "status")
		dropNulls(m)
		out = append(out, m)
	}
	return out, nil
}

// YAML returns the objects as one stream of documents, in their order.
func YAML[T any](objs []T) ([]byte, error) {
	ms, err := Maps(objs)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	for i, m := range ms {
		if i > 0 {
			out.WriteString("---\n")
		}
		b, err := yaml.Marshal(m)
		if err != nil {
			return nil, err
		}
		out.Write(b)
	}
	return out.Bytes(), nil
}

// dropNulls takes out null fields, which mean nothing where an object is
// applied.
func dropNulls(m map[string]any) {
	for k, v := range m {
		switch v := v.(type) {
		case nil:
			delete(m, k)
		case map[string]any:
			dropNulls(v)
		case []any:
			for _, e := range v {
				if e, ok := e.(map[string]any); ok {
					dropNulls(e)
				}
			}
		}
	}
}
