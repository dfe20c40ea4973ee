package e2e

import (
	"bytes"
	"debug/buildinfo"
	"debug/elf"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"imapproxy/e2e/servers"
)

// inBuilder is what a stage that builds is run in: this release with all that is written kept in memory, in place of the image that the stage
// begins with. "$1" is an empty folder, "$2" becomes the image; what a stage does is put behind.
const inBuilder = `
set -eu
umask 022
image=$2
mount -t tmpfs tmpfs "$1"
mkdir "$1/upper" "$1/work" "$1/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" "$1/root"
root=$1/root
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
mkdir -p "$root/usr/local/go"
mount --bind "$3" "$root/usr/local/go"
`

// imageStage is one of a Dockerfile's, as tools/manifests reads it.
type imageStage struct {
	Name, From string
	Steps      []struct {
		Do       string
		Args     []string
		From, To string
		Shell    bool
		Caches   []string
		Values   map[string]string
	}
}

// propagation is that of a mount namespace whose mounts are seen by no other. In a chroot / is no mount point, whose propagation could be changed; the
// program that made the chroot (tools/release) has given it a namespace of its own.
func propagation(t *testing.T) string {
	t.Helper()
	if exec.CommandContext(t.Context(), "unshare", "--mount", "true").Run() != nil {
		return "unchanged"
	}
	return "private"
}

// image is what the last stage says of itself.
type image struct {
	root, from      string
	entrypoint, cmd []string
	user            string
	ports           []string
}

// buildImage carries out the Dockerfile, in place of a container's runtime, which isn't here.
func buildImage(t *testing.T, manifests, file, version string) image {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), manifests, "dockerfile", file).Output()
	if err != nil {
		t.Fatal(err)
	}
	var stages []imageStage
	if err := json.Unmarshal(out, &stages); err != nil {
		t.Fatal(err)
	}
	if len(stages) != 2 || stages[1].From != "scratch" {
		t.Fatalf("the stages aren't one that builds, and one from scratch: %s", out)
	}
	dir := servers.Folder(t)
	made := image{root: filepath.Join(dir, "image"), from: stages[0].From}
	for _, name := range []string{made.root, filepath.Join(dir, "work")} {
		if err := os.Mkdir(name, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	env := goEnv(t, "GOROOT", "GOCACHE", "GOMODCACHE", "GOPROXY", "GOFLAGS")
	script, stays, folder := inBuilder, map[string]string{"/root/.cache/go-build": env["GOCACHE"], "/go/pkg/mod": env["GOMODCACHE"]}, "/"
	variables := []string{"PATH=/usr/local/go/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "GOPATH=/go", "GOTOOLCHAIN=local", "GOPROXY=" + env["GOPROXY"], "GOFLAGS=" + env["GOFLAGS"]}
	for _, s := range stages[0].Steps {
		switch s.Do {
		case "ARG":
			if _, ok := s.Values["VERSION"]; !ok {
				t.Fatalf("the build has an argument that isn't known here: %v", s.Values)
			}
			variables = append(variables, "VERSION="+version)
		case "WORKDIR":
			folder = s.Args[0]
			script += fmt.Sprintf("mkdir -p \"$root\"%s\n", quoted(folder))
		case "COPY":
			if s.From != "" || !slices.Equal(s.Args, []string{"."}) || s.To != "." {
				t.Fatalf("not known here: %+v", s)
			}
			script += fmt.Sprintf("tar -C %s --exclude-from=%s --anchored -cf - . | tar -C \"$root\"%s -xf -\n", quoted(absolute(t, "..")), quoted(excluded(t, file, dir)), quoted(folder))
		case "RUN":
			for _, target := range s.Caches {
				if stays[target] == "" {
					t.Fatalf("the build keeps %s, which isn't known here", target)
				}
				script += fmt.Sprintf("mkdir -p \"$root\"%[1]s\nmount --bind %[2]s \"$root\"%[1]s\n", quoted(target), quoted(stays[target]))
			}
			var all []string
			for _, v := range variables {
				all = append(all, quoted(v))
			}
			script += fmt.Sprintf("chroot \"$root\" /usr/bin/env -i %s /bin/sh -c %s\n", strings.Join(all, " "), quoted("cd "+folder+" && "+strings.Join(s.Args, " ")))
		default:
			t.Fatalf("not known here: %+v", s)
		}
	}
	for _, s := range stages[1].Steps {
		switch s.Do {
		case "COPY":
			if s.From != stages[0].Name || len(s.Args) != 1 {
				t.Fatalf("not known here: %+v", s)
			}
			script += fmt.Sprintf("mkdir -p \"$image\"%s\ncp -L --preserve=mode \"$root\"%s \"$image\"%s\n", quoted(filepath.Dir(s.To)), quoted(s.Args[0]), quoted(s.To))
		case "USER":
			made.user = s.Args[0]
		case "EXPOSE":
			made.ports = s.Args
		case "ENTRYPOINT", "CMD":
			if s.Shell {
				t.Fatalf("there is no shell in the image for %+v", s)
			}
			if s.Do == "CMD" {
				made.cmd = s.Args
			} else {
				made.entrypoint = s.Args
			}
		default:
			t.Fatalf("not known here: %+v", s)
		}
	}
	c := exec.CommandContext(t.Context(), "unshare", "--mount", "--propagation", propagation(t), "/bin/sh", "-c", script, "sh", filepath.Join(dir, "work"), made.root, env["GOROOT"])
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return made
}

// excluded writes what the build's context leaves out, for tar.
func excluded(t *testing.T, dockerfile, dir string) string {
	t.Helper()
	text, err := os.ReadFile(dockerfile + ".dockerignore")
	if err != nil {
		t.Fatal(err)
	}
	var all strings.Builder
	for _, line := range strings.Fields(string(text)) {
		fmt.Fprintf(&all, "./%s\n", line)
	}
	path := filepath.Join(dir, "excluded")
	writeFile(t, path, all.String())
	return path
}

// goEnv asks the go command for its variables.
func goEnv(t *testing.T, names ...string) map[string]string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", append([]string{"env", "-json"}, names...)...).Output()
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	if err := json.Unmarshal(out, &all); err != nil {
		t.Fatal(err)
	}
	return all
}

// quoted is one word for a shell.
func quoted(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

func absolute(t *testing.T, path string) string {
	t.Helper()
	path, err := filepath.Abs(path)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// contains checks what is in the image: the authorities and the program, which is static and has no paths of this machine.
func (i image) contains(t *testing.T, authorities, program string) {
	t.Helper()
	var files []string
	err := filepath.WalkDir(i.root, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			files = append(files, strings.TrimPrefix(path, i.root))
		}
		return err
	})
	if err != nil || !slices.Equal(files, []string{authorities, program}) {
		t.Errorf("in the image are %v (%v)", files, err)
	}
	text, err := os.ReadFile(i.root + authorities)
	if n := bytes.Count(text, []byte("BEGIN CERTIFICATE")); err != nil || n < 100 {
		t.Errorf("the image has %d authorities (%v)", n, err)
	}
	f, err := elf.Open(i.root + program)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			t.Error("the program isn't static")
		}
	}
	info, err := buildinfo.ReadFile(i.root + program)
	if err != nil {
		t.Fatal(err)
	}
	settings := map[string]string{}
	for _, s := range info.Settings {
		settings[s.Key] = s.Value
	}
	if settings["CGO_ENABLED"] != "0" || settings["-trimpath"] != "true" {
		t.Errorf("the program was built with %v", settings)
	}
	mod, err := os.ReadFile("../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	if version := strings.TrimPrefix(i.from, "golang:"); !strings.Contains(string(mod), "\ngo "+version+"\n") {
		t.Errorf("the image is built by %s, go.mod asks for another release", i.from)
	}
}

// isBuiltAgain checks that the program doesn't depend on the folder in which it is built.
func (i image) isBuiltAgain(t *testing.T, program, version string) {
	t.Helper()
	path := filepath.Join(servers.Folder(t), "imapproxy")
	c := exec.CommandContext(t.Context(), "go", "build", "-buildvcs=false", "-trimpath", "-ldflags", "-s -w -X main.release="+version, "-o", path, "imapproxy/cmd/imapproxy")
	c.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	one, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	other, err := os.ReadFile(i.root + program)
	if err != nil || !bytes.Equal(one, other) {
		t.Errorf("the same program built in another folder is another one (%v)", err)
	}
}
