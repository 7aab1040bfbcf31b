package main

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/bunting-flags/terraform-provider-bunting/internal/configuration"
)

// settingFlag is a setting on the command line. It takes every text: what is
// wrong with it is told with all else that is wrong.
type settingFlag struct {
	configuration.Setting

	text string
}

// String gives what was written, and the default before that.
func (f *settingFlag) String() string { return f.text }

// Set notes what was written.
func (f *settingFlag) Set(text string) error {
	f.text = text
	return nil
}

// Type names the kind of setting in the help.
func (f *settingFlag) Type() string { return f.Kind }

// configFlag is the flag that names the file. An empty name is the slip of a
// script, whose settings would be gone without a word; a second one likewise.
type configFlag struct{ path string }

// String gives the file's name.
func (f *configFlag) String() string { return f.path }

// Set notes the file's name, once.
func (f *configFlag) Set(path string) error {
	switch {
	case path == "":
		return errors.New("it names no file. Name one, or leave the flag out")
	case f.path != "":
		return fmt.Errorf("%q is named before. All settings stand in one file", f.path)
	}
	f.path = path
	return nil
}

// Type names what is wanted, for the help.
func (f *configFlag) Type() string { return "path" }

// group is the flags of a heading of the help.
type group struct {
	title string
	flags *pflag.FlagSet
}

// addSettings gives the command a flag for each setting, and groups them.
func addSettings(c *cobra.Command) []group {
	var groups []group
	for _, s := range configuration.Table() {
		if len(groups) == 0 || groups[len(groups)-1].title != s.Group {
			flags := pflag.NewFlagSet(s.Group, pflag.ContinueOnError)
			flags.SortFlags = false // the table's order is for people
			groups = append(groups, group{s.Group, flags})
		}
		f := groups[len(groups)-1].flags.VarPF(&settingFlag{s, s.Default}, s.Flag(), "", s.Help)
		if s.IsBool() {
			f.NoOptDefVal = "true"
		}
		c.Flags().AddFlag(f)
	}
	return groups
}

// showGroups has the command's help list its flags by groups, the others last.
func showGroups(c *cobra.Command, groups []group) {
	c.SetUsageFunc(func(c *cobra.Command) error {
		var text strings.Builder
		fmt.Fprintf(&text, "Usage:\n  %s\n", c.UseLine())
		others := pflag.NewFlagSet("", pflag.ContinueOnError)
		c.Flags().VisitAll(func(f *pflag.Flag) {
			if _, ok := f.Value.(*settingFlag); !ok {
				others.AddFlag(f)
			}
		})
		for _, g := range append(groups, group{"Other flags", others}) {
			fmt.Fprintf(&text, "\n%s:\n%s", g.title, g.flags.FlagUsages())
		}
		_, err := io.WriteString(c.OutOrStdout(), text.String())
		return err
	})
}

// suggestSetting adds to the error of a flag that does not exist the one that was
// probably meant.
func suggestSetting(_ *cobra.Command, err error) error {
	if unknown, ok := errors.AsType[*pflag.NotExistError](err); ok {
		return fmt.Errorf("%w%s", err, configuration.NearestFlag(unknown.GetSpecifiedName()))
	}
	return err
}

// settings reads what is in force: the command line over the environment over
// the file.
func (a *app) settings(c *cobra.Command, file string) (*configuration.Settings, error) {
	roads := configuration.Roads{File: file, Flags: map[string]string{}}
	if a.environ != nil {
		roads.Environment = a.environ()
	}
	c.Flags().Visit(func(f *pflag.Flag) {
		if s, ok := f.Value.(*settingFlag); ok {
			roads.Flags[s.Key] = s.text
		}
	})
	settings, err := configuration.Read(roads)
	if err != nil {
		return nil, &exit{exitUsage, err}
	}
	return settings, nil
}
