package tfplan

import (
	"slices"
	"strings"
)

// configuration is what a plan says of the configuration: of an expression that is no
// constant, the references in it, and not what is made of them.
type configuration struct {
	Providers map[string]struct {
		Name        string         `json:"name"`
		Expressions map[string]any `json:"expressions"`
	} `json:"provider_config"`
	Root configModule `json:"root_module"`
}

type configModule struct {
	Resources []struct {
		Address     string         `json:"address"`
		Provider    string         `json:"provider_config_key"`
		Expressions map[string]any `json:"expressions"`
	} `json:"resources"`
	Calls map[string]struct {
		Expressions map[string]any `json:"expressions"`
		Module      configModule   `json:"module"`
	} `json:"module_calls"`
	Outputs map[string]struct {
		Expression any `json:"expression"`
	} `json:"outputs"`
	Variables map[string]struct {
		Sensitive bool `json:"sensitive"`
	} `json:"variables"`
}

// withoutIndexes takes the keys of count and for_each out of an address.
func withoutIndexes(address string) string {
	steps := splitAddress(address)
	for i, step := range steps {
		steps[i], _, _ = strings.Cut(step, "[")
	}
	return strings.Join(steps, ".")
}

// moduleAt is the configuration of a module, by its address. Nil if it is not there.
func (c *configuration) moduleAt(address string) *configModule {
	at := &c.Root
	steps := splitAddress(withoutIndexes(address))
	for i := 1; i < len(steps); i += 2 {
		call, ok := at.Calls[steps[i]]
		if !ok {
			return nil
		}
		at = &call.Module
	}
	return at
}

// expressions are those of a resource.
func (c *configuration) expressions(one *thing) map[string]any {
	expressions, _ := c.resource(one)
	return expressions
}

// resource is what the configuration says of a resource, and the key of its provider.
func (c *configuration) resource(one *thing) (expressions map[string]any, provider string) {
	m := c.moduleAt(one.module)
	if m == nil {
		return nil, ""
	}
	address := withoutIndexes(strings.TrimPrefix(strings.TrimPrefix(one.address, one.module), "."))
	for _, r := range m.Resources {
		if r.Address == address {
			return r.Expressions, r.Provider
		}
	}
	return nil, ""
}

// constant is the value of an expression that is one: written so, or a variable of the root.
func (t *translation) constant(expression any) any {
	e, _ := expression.(map[string]any)
	if v, ok := e["constant_value"]; ok {
		return v
	}
	if refs := references(expression); len(refs) == 1 {
		if name, ok := strings.CutPrefix(refs[0], "var."); ok {
			return t.plan.Inputs[name].Value
		}
	}
	return nil
}

// references are those of an expression, each in full: "a.b.c" is named with "a.b" too.
func references(expression any) (all []string) {
	e, _ := expression.(map[string]any)
	list, _ := e["references"].([]any)
	for _, v := range list {
		if text, ok := v.(string); ok {
			all = append(all, text)
		}
	}
	return slices.DeleteFunc(slices.Compact(slices.Sorted(slices.Values(all))), func(short string) bool {
		return slices.ContainsFunc(all, func(o string) bool {
			return len(o) > len(short) && strings.HasPrefix(o, short) && strings.ContainsAny(o[len(short):len(short)+1], ".[")
		})
	})
}

// source is a value of a resource, by its address and attribute.
type source struct{ address, attribute string }

// mostSteps bounds how far references are followed.
const mostSteps = 20

// follow finds the one value of a resource that an expression in a module is, if it refers to
// nothing else: through variables and outputs of modules. What is made of the value can't be
// seen, so this is for expressions that are hardly ever anything but the value.
func (t *translation) follow(expression any, module string, depth int) (source, bool) {
	refs := references(expression)
	if len(refs) != 1 || depth > mostSteps {
		return source{}, false
	}
	steps := splitAddress(refs[0])
	switch {
	case len(steps) >= 2 && steps[0] == "var":
		if module == "" {
			return source{}, false
		}
		parent, call := parentOf(module)
		m := t.plan.Config.moduleAt(parent)
		if m == nil {
			return source{}, false
		}
		return t.follow(m.Calls[call].Expressions[steps[1]], parent, depth+1)
	case len(steps) >= 3 && steps[0] == "module":
		below := strings.TrimPrefix(module+".module."+steps[1], ".")
		if !strings.Contains(steps[1], "[") && !t.hasModule(below) {
			return source{}, false // one of several
		}
		name, _, _ := strings.Cut(steps[1], "[")
		m := t.plan.Config.moduleAt(module)
		if m == nil {
			return source{}, false
		}
		output, _, _ := strings.Cut(steps[2], "[")
		return t.follow(m.Calls[name].Module.Outputs[output].Expression, below, depth+1)
	case len(steps) >= 3 && steps[0] != "local" && steps[0] != "each" && steps[0] != "path" && steps[0] != "terraform":
		at := 2
		if steps[0] == "data" {
			at = 3
		}
		if len(steps) <= at {
			return source{}, false
		}
		address := t.instance(strings.TrimPrefix(module+"."+strings.Join(steps[:at], "."), "."))
		return source{address, steps[at]}, address != ""
	}
	return source{}, false
}

// parentOf is the module that calls another, and the name of the call.
func parentOf(module string) (parent, call string) {
	steps := splitAddress(module)
	call, _, _ = strings.Cut(steps[len(steps)-1], "[")
	return strings.Join(steps[:len(steps)-2], "."), call
}

func (t *translation) hasModule(address string) bool {
	for _, one := range t.order {
		if one.module == address || strings.HasPrefix(one.module, address+".") {
			return true
		}
	}
	return false
}

// instance is the one resource that a reference means, or nothing if there are several.
func (t *translation) instance(address string) string {
	if t.things[address] != nil {
		return address
	}
	found := ""
	for _, one := range t.order {
		if strings.HasPrefix(one.address, address+"[") && moduleOf(one.address) == moduleOf(address) {
			if found != "" {
				return ""
			}
			found = one.address
		}
	}
	return found
}
