package cli

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/ekskms/ekskms/internal/config"
	"github.com/ekskms/ekskms/internal/hint"
)

// choiceValue is the value of a flag that takes one of a few words.
type choiceValue struct {
	value *string
	words []string
}

func (c *choiceValue) String() string {
	if c.value == nil {
		return ""
	}
	return *c.value
}

func (c *choiceValue) Type() string { return "string" }

func (c *choiceValue) Set(word string) error {
	if !slices.Contains(c.words, word) {
		return fmt.Errorf("must be %s", listed(c.words))
	}
	*c.value = word
	return nil
}

// choice adds a flag that takes one of a few words, of which the first is the default.
func choice(set *pflag.FlagSet, value *string, name, usage string, words ...string) {
	*value = words[0]
	set.Var(&choiceValue{value, words}, name, usage+": "+listed(words))
}

// choiceOrNone adds a flag that takes one of a few words. What value holds is the
// default.
func choiceOrNone(set *pflag.FlagSet, value *string, name, usage string, words ...string) {
	set.Var(&choiceValue{value, words}, name, usage+": "+listed(words))
}

// completeFlags makes flags complete: those that take one of a few words to these,
// a configuration to files of YAML, a folder to folders.
func completeFlags(cmd *cobra.Command) {
	for _, sub := range cmd.Commands() {
		completeFlags(sub)
	}
	complete := func(f *pflag.Flag) {
		if c, ok := f.Value.(*choiceValue); ok {
			must(cmd.RegisterFlagCompletionFunc(f.Name, cobra.FixedCompletions(c.words, cobra.ShellCompDirectiveNoFileComp)))
		}
	}
	cmd.LocalNonPersistentFlags().VisitAll(complete)
	cmd.PersistentFlags().VisitAll(complete)
	if cmd.Flags().Lookup("file") != nil {
		must(cmd.MarkFlagFilename("file", "yaml", "yml"))
	}
	if f := cmd.Flags().Lookup("out"); f != nil && !strings.Contains(f.Usage, "`file`") {
		must(cmd.MarkFlagDirname("out"))
	}
}

// must is for what can only be a fault of the program.
func must(err error) {
	if err != nil {
		panic(err)
	}
}

// flagError says what is wrong with a flag, in words of this program.
func flagError(cmd *cobra.Command, err error) error {
	advice := helpHint(cmd)
	var invalid *pflag.InvalidValueError
	var unknown *pflag.NotExistError
	var missing *pflag.ValueRequiredError
	switch {
	case errors.As(err, &invalid):
		f := invalid.GetFlag()
		want := "must be " + map[string]string{
			"bool": "true or false", "int": "a whole number", "int32": "a whole number", "int64": "a whole number",
			"float64": "a number", "duration": "a duration such as 20ms", "stringToString": "name=value",
		}[f.Value.Type()]
		if _, ok := f.Value.(*choiceValue); ok {
			want = invalid.Unwrap().Error()
		}
		return hint.Usage(fmt.Sprintf("--%s is %q, %s", f.Name, invalid.GetValue(), want), advice)
	case errors.As(err, &unknown):
		name := unknown.GetSpecifiedName()
		if strings.HasPrefix(err.Error(), "unknown shorthand") {
			return hint.Usage(fmt.Sprintf("unknown flag -%s", name), advice)
		}
		var names []string
		cmd.Flags().VisitAll(func(f *pflag.Flag) { names = append(names, f.Name) })
		return hint.Usage("unknown flag --"+name, didYouMean("--", nearest(name, names), advice))
	case errors.As(err, &missing):
		return hint.Usage("--"+missing.GetFlag().Name+" needs a value", advice)
	}
	return hint.Usage(err.Error(), advice)
}

func helpHint(cmd *cobra.Command) string { return "run '" + cmd.CommandPath() + " --help'" }

func didYouMean(before string, words []string, advice string) string {
	if len(words) == 0 {
		return advice
	}
	for i := range words {
		words[i] = "'" + before + words[i] + "'"
	}
	return "did you mean " + listed(words) + "? Or " + advice
}

// noArgs refuses arguments: those of a command with subcommands are misspelt ones.
func noArgs(cmd *cobra.Command, args []string) error {
	switch {
	case len(args) == 0:
		return nil
	case !cmd.HasAvailableSubCommands():
		return hint.Usage(fmt.Sprintf("%q is one argument too many", args[0]), helpHint(cmd))
	}
	return unknownCommand(cmd, args[0])
}

func unknownCommand(parent *cobra.Command, word string) error {
	var names []string
	for _, sub := range parent.Commands() {
		names = append(names, sub.Name())
	}
	return hint.Usage(fmt.Sprintf("unknown command %q", word), didYouMean(parent.CommandPath()+" ", nearest(word, names), helpHint(parent)))
}

// upToOne allows one argument, which need not be given.
func upToOne(cmd *cobra.Command, args []string) error {
	if len(args) > 1 {
		return hint.Usage(fmt.Sprintf("%q is one argument too many", args[1]), helpHint(cmd))
	}
	return nil
}

// one wants one argument, whose name is in the usage.
func one(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		_, name, _ := strings.Cut(cmd.Use, " ")
		return hint.Usage(name+" is missing", helpHint(cmd))
	}
	return upToOne(cmd, args)
}

// helpArgs refuses help for a command that does not exist, for which cobra would
// print help and be content.
func helpArgs(cmd *cobra.Command, args []string) error {
	at := cmd.Root()
	for _, word := range args {
		i := slices.IndexFunc(at.Commands(), func(sub *cobra.Command) bool { return sub.Name() == word })
		if i < 0 {
			return unknownCommand(at, word)
		}
		at = at.Commands()[i]
	}
	return nil
}

// notEmpty refuses flags that are given as empty: a variable that is not set in a
// script must not mean the default.
func notEmpty(cmd *cobra.Command) (err error) {
	cmd.Flags().Visit(func(flag *pflag.Flag) {
		empty := flag.Value.String() == ""
		if list, ok := flag.Value.(pflag.SliceValue); ok {
			empty = len(list.GetSlice()) == 0 || slices.Contains(list.GetSlice(), "")
		}
		if err == nil && empty {
			err = hint.Usage("--"+flag.Name+" is empty", helpHint(cmd))
		}
	})
	return err
}

// configuration is the ekskms.yaml that a command reads: FILE, --file, or the one
// in the working directory.
type configuration struct {
	files, only []string
	// atLeastOne lets the file lack some of only.
	atLeastOne bool
	// withoutLock leaves the lock file alone, and mayLack lets it lack something.
	withoutLock, mayLack bool
	// name is that of the first file, whole is all of its clusters, and places say where
	// what it says stands. They are set by load.
	name   string
	whole  *config.File
	places map[string]config.Place
}

// add gives the command FILE, --file and --only.
func (c *configuration) add(cmd *cobra.Command) {
	cmd.Use += " [FILE]"
	c.addFile(cmd.Flags(), "configuration `file`, the same as FILE; - for standard input; of several, later ones merge over earlier ones. Default: ekskms.yaml here, or a built-in default")
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) == 0:
		case len(c.files) > 0:
			return hint.Usage("--file and FILE are both given, must be one of them", helpHint(cmd))
		default:
			c.files = args[:1]
		}
		return upToOne(cmd, args)
	}
}

// addFile adds the flags without FILE.
func (c *configuration) addFile(set *pflag.FlagSet, usage string) {
	set.StringArrayVarP(&c.files, "file", "f", nil, usage)
	set.StringArrayVar(&c.only, "only", nil, "clusters of the configuration that are meant: a `name`, or a label as key=value; can be repeated. Default: all")
}

// load reads the configuration, with the clusters that are meant.
func (c *configuration) load(cmd *cobra.Command) (*config.File, error) {
	var sources []config.Source
	for i, name := range c.files {
		source, err := config.Source{}, error(nil)
		switch {
		case name != "-":
			source, err = config.Open(name)
		case slices.Contains(c.files[:i], name):
			return nil, hint.Usage("--file is - twice, and there is one standard input", helpHint(cmd))
		default:
			source, err = config.Read("<stdin>", cmd.InOrStdin())
		}
		if err != nil {
			return nil, err
		}
		if config.IsTemplate(source.Data) {
			return nil, hint.Usage(source.Name+" is a CloudFormation template, and must be an ekskms.yaml", "'ekskms check "+name+"' says what is wrong in it, 'ekskms explain' who may use its keys")
		}
		sources = append(sources, source)
	}
	sources, builtIn, err := config.OrDefault(sources...)
	if err != nil {
		return nil, err
	}
	if c.whole, c.places, err = config.Resolve(sources...); err != nil {
		return nil, err
	}
	c.name = sources[0].Name
	if err := c.whole.ReadOutputs(c.name); err != nil {
		return nil, err
	}
	if !c.withoutLock {
		replaced, err := c.whole.ReadLock(c.name)
		if err != nil {
			return nil, err
		}
		maps.Copy(c.places, replaced)
	}
	if builtIn {
		notice(cmd, "there is no "+config.FileName+" here, so this is the built-in default", "")
	}
	only := c.only
	if c.atLeastOne {
		only = slices.DeleteFunc(slices.Clone(only), func(name string) bool {
			return !slices.ContainsFunc(c.whole.Clusters, func(c config.Cluster) bool { return c.Name == name })
		})
		if len(only) == 0 && len(c.only) > 0 {
			return nil, hint.Usage("the other side has no cluster "+listed(c.only)+", so there is nothing to compare", "")
		}
	}
	file, err := c.whole.Only(only...)
	if err != nil {
		return nil, hint.Usage(err.Error(), "")
	}
	if err := file.Unlocked(); err != nil && !c.withoutLock && !c.mayLack {
		return nil, hint.Usage(err.Error(), config.LockHint)
	}
	if waiting := file.Waiting(); len(waiting) > 0 && !c.withoutLock {
		k := file.Shared.KeyAccount
		notice(cmd, fmt.Sprintf("the keys in account %s of %s are not known yet, so there are no stacks of these clusters", k.Account, strings.Join(waiting, ", ")),
			"deploy the stacks ekskms-keys with --outputs-file "+k.Outputs+", which belongs beside "+c.name+", and run this again")
	}
	return file, nil
}

// loadOne reads the one cluster that is meant.
func (c *configuration) loadOne(cmd *cobra.Command) (config.Cluster, error) {
	file, err := c.load(cmd)
	if err != nil {
		return config.Cluster{}, err
	}
	if n := len(file.Clusters); n > 1 {
		var names []string
		for _, cluster := range file.Clusters {
			names = append(names, cluster.Name)
		}
		return config.Cluster{}, hint.Usage(fmt.Sprintf("there are %d clusters, and '%s' is for one", n, cmd.CommandPath()), "name it with --only: "+listed(names))
	}
	return file.Clusters[0], nil
}

// loadAlone is loadOne for a command that makes the record with the cluster.
func (c *configuration) loadAlone(cmd *cobra.Command) (config.Cluster, error) {
	cluster, err := c.loadOne(cmd)
	if err == nil {
		err = c.alone(cmd)
	}
	return cluster, err
}

// alone refuses a configuration whose clusters share their record.
func (c *configuration) alone(cmd *cobra.Command) error {
	if c.whole.Shared == nil {
		return nil
	}
	return hint.Usage("'"+cmd.CommandPath()+"' is for a cluster with a record of its own, and these share theirs", "use 'ekskms synth', or give the cluster a file of its own, without 'shared'")
}

// isConfiguration tells whether a file is an ekskms.yaml and no template.
func isConfiguration(name string) bool {
	if info, err := os.Stat(name); err != nil || !info.Mode().IsRegular() {
		return false
	}
	data, err := os.ReadFile(name)
	return err == nil && config.Is(data)
}
