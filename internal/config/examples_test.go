package config

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/gohcl"
	"github.com/hashicorp/hcl/v2/hclparse"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
)

// job has what Nomad knows and the example uses; a field that isn't here is a mistake.
type job struct {
	Job struct {
		Name        string   `hcl:"name,label"`
		Datacenters []string `hcl:"datacenters"`
		Type        string   `hcl:"type"`
		Group       struct {
			Name   string `hcl:"name,label"`
			Count  int    `hcl:"count"`
			Update struct {
				MaxParallel     int    `hcl:"max_parallel"`
				HealthCheck     string `hcl:"health_check"`
				MinHealthyTime  string `hcl:"min_healthy_time"`
				HealthyDeadline string `hcl:"healthy_deadline"`
				AutoRevert      bool   `hcl:"auto_revert"`
			} `hcl:"update,block"`
			Constraint struct {
				Operator string `hcl:"operator"`
				Value    string `hcl:"value"`
			} `hcl:"constraint,block"`
			Network struct {
				Mode string `hcl:"mode"`
				Port struct {
					Name   string `hcl:"name,label"`
					Static int    `hcl:"static"`
				} `hcl:"port,block"`
			} `hcl:"network,block"`
			Task struct {
				Name   string `hcl:"name,label"`
				Driver string `hcl:"driver"`
				User   string `hcl:"user"`
				Config struct {
					Command string   `hcl:"command"`
					Args    []string `hcl:"args"`
				} `hcl:"config,block"`
				KillSignal  string `hcl:"kill_signal"`
				KillTimeout string `hcl:"kill_timeout"`
				Template    struct {
					Destination  string `hcl:"destination"`
					ChangeMode   string `hcl:"change_mode"`
					ChangeSignal string `hcl:"change_signal"`
					Data         string `hcl:"data"`
				} `hcl:"template,block"`
				Resources struct {
					CPU    int `hcl:"cpu"`
					Memory int `hcl:"memory"`
				} `hcl:"resources,block"`
			} `hcl:"task,block"`
		} `hcl:"group,block"`
	} `hcl:"job,block"`
}

// The Nomad job is read as HCL by its structure (Nomad itself isn't here), its configuration by the proxy, and the one leaves the other the time to stop.
func TestTheNomadJobIsUnderstood(t *testing.T) {
	text, err := os.ReadFile("../../packaging/nomad/imapproxy.nomad.hcl")
	if err != nil {
		t.Fatal(err)
	}
	file, wrong := hclparse.NewParser().ParseHCL(text, "imapproxy.nomad.hcl")
	if wrong.HasErrors() {
		t.Fatal(wrong)
	}
	var j job
	if wrong := gohcl.DecodeBody(file.Body, nomadContext(), &j); wrong.HasErrors() {
		t.Fatal(wrong)
	}
	task := j.Job.Group.Task
	dir := t.TempDir()
	cert, key := certificateFiles(t, dir)
	for _, name := range []string{"consul.token", "admin.token"} {
		write(t, filepath.Join(dir, name), "a-long-random-text-of-this-test")
	}
	data := strings.NewReplacer("/etc/imapproxy/fullchain.pem", cert, "/etc/imapproxy/privkey.pem", key, "/etc/imapproxy", dir).Replace(task.Template.Data)
	c, warnings, err := Parse("config.hcl", []byte(data))
	if err != nil || len(warnings) > 0 {
		t.Fatal(err, warnings)
	}
	within, err := time.ParseDuration(task.KillTimeout)
	if err != nil || within <= c.Shutdown.LameDuck+c.Shutdown.Drain {
		t.Errorf("Nomad kills after %v; the lame duck takes %v, the drain %v (%v)", within, c.Shutdown.LameDuck, c.Shutdown.Drain, err)
	}
	if j.Job.Group.Count > 1 && c.Cluster == nil {
		t.Error("several proxies that don't agree")
	}
	if task.Config.Args[len(task.Config.Args)-1] != "local-folder/config.hcl" || task.Template.Destination != "local/config.hcl" {
		t.Error(task.Config.Args, task.Template.Destination)
	}
}

// nomadContext has Nomad's variable that the example uses.
func nomadContext() *hcl.EvalContext {
	return &hcl.EvalContext{Variables: map[string]cty.Value{"NOMAD_TASK_DIR": cty.StringVal("local-folder")}}
}

// The rules in the documentation are those of the file, in any order.
func TestTheConsulPolicyIsTheDocumentedOne(t *testing.T) {
	rules := func(path, before string) []string {
		t.Helper()
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		_, part, found := strings.Cut(string(text), before)
		if !found {
			t.Fatalf("%s has no %q", path, before)
		}
		part, _, _ = strings.Cut(part, "\n```")
		file, wrong := hclparse.NewParser().ParseHCL([]byte(part), path)
		if wrong.HasErrors() {
			t.Fatal(wrong)
		}
		var all []string
		for _, block := range file.Body.(*hclsyntax.Body).Blocks {
			policy, wrong := block.Body.Attributes["policy"].Expr.Value(nil)
			if wrong.HasErrors() || len(block.Body.Attributes) != 1 {
				t.Fatal(wrong)
			}
			all = append(all, strings.Join(append([]string{block.Type}, block.Labels...), " ")+" "+policy.AsString())
		}
		slices.Sort(all)
		return all
	}
	file, documented := rules("../../packaging/consul/policy.hcl", ""), rules("../../docs/cluster.md", "consul/policy.hcl):\n\n```hcl\n")
	if len(file) == 0 || !slices.Equal(file, documented) {
		t.Errorf("the file has %q, docs/cluster.md %q", file, documented)
	}
}
