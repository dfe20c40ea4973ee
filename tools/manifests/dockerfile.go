package main

import (
	"bytes"
	"fmt"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
)

// A stage is one of a Dockerfile's, with its instructions in their order.
type stage struct {
	Name  string `json:"name"`
	From  string `json:"from"`
	Steps []step `json:"steps"`
}

// A step is an instruction, with the fields that it has.
type step struct {
	Do     string            `json:"do"` // arg, workdir, copy, run, user, expose, entrypoint, cmd
	Args   []string          `json:"args"`
	From   string            `json:"from,omitempty"`   // of copy: a stage
	To     string            `json:"to,omitempty"`     // of copy
	Shell  bool              `json:"shell,omitempty"`  // run, entrypoint, cmd: one text for a shell
	Caches []string          `json:"caches,omitempty"` // of run: folders that are kept between builds
	Values map[string]string `json:"values,omitempty"` // of arg
}

// understandImage reads a Dockerfile as BuildKit does.
func understandImage(text []byte) ([]stage, error) {
	parsed, err := parser.Parse(bytes.NewReader(text))
	if err != nil {
		return nil, err
	}
	for _, w := range parsed.Warnings {
		return nil, fmt.Errorf("%s", w.Short)
	}
	stages, global, err := instructions.Parse(parsed.AST, nil)
	if err != nil {
		return nil, err
	}
	if len(global) > 0 {
		return nil, fmt.Errorf("an ARG before the first FROM isn't understood here")
	}
	var all []stage
	for _, s := range stages {
		made := stage{Name: s.Name, From: s.BaseName}
		for _, c := range s.Commands {
			one, err := understandStep(c)
			if err != nil {
				return nil, err
			}
			made.Steps = append(made.Steps, one)
		}
		all = append(all, made)
	}
	return all, nil
}

func understandStep(c instructions.Command) (step, error) {
	one := step{Do: c.Name()}
	switch c := c.(type) {
	case *instructions.ArgCommand:
		one.Values = map[string]string{}
		for _, a := range c.Args {
			one.Values[a.Key] = a.ValueString()
		}
	case *instructions.WorkdirCommand:
		one.Args = []string{c.Path}
	case *instructions.CopyCommand:
		one.Args, one.From, one.To = c.SourcePaths, c.From, c.DestPath
	case *instructions.RunCommand:
		// The mounts are read by the flags' own expansion.
		if err := c.Expand(func(word string) (string, error) { return word, nil }); err != nil {
			return one, err
		}
		one.Args, one.Shell = c.CmdLine, c.PrependShell
		for _, m := range instructions.GetMounts(c) {
			if m.Type != instructions.MountTypeCache {
				return one, fmt.Errorf("a mount of type %s isn't understood here", m.Type)
			}
			one.Caches = append(one.Caches, m.Target)
		}
	case *instructions.UserCommand:
		one.Args = []string{c.User}
	case *instructions.ExposeCommand:
		one.Args = c.Ports
	case *instructions.EntrypointCommand:
		one.Args, one.Shell = c.CmdLine, c.PrependShell
	case *instructions.CmdCommand:
		one.Args, one.Shell = c.CmdLine, c.PrependShell
	default:
		return one, fmt.Errorf("%s isn't understood here", c.Name())
	}
	return one, nil
}
