// Manifests reads packaging's files for containers as the programs that they are for do, and prints as JSON what those would run:
//
//	manifests kubernetes FILE    the pod, once all objects are understood and fit together
//	manifests dockerfile FILE    the build's stages, with their instructions
//
// Mistakes go to standard error, one in each line, and the exit code is 1.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 2 {
		return errors.New("usage: manifests kubernetes|dockerfile FILE")
	}
	text, err := os.ReadFile(args[1])
	if err != nil {
		return err
	}
	var result any
	switch args[0] {
	case "kubernetes":
		result, err = understandPod(text)
	case "dockerfile":
		result, err = understandImage(text)
	default:
		err = fmt.Errorf("%s: write kubernetes or dockerfile", args[0])
	}
	if err != nil {
		return err
	}
	encoder := json.NewEncoder(os.Stdout)
	encoder.SetIndent("", "  ")
	return encoder.Encode(result)
}
