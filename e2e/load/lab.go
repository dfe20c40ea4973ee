package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// lab is a folder and the processes of a measurement.
type lab struct {
	o      options
	dir    string
	procs  []*proc
	beside *lab // with another build of the proxy; nil: there is none
}

func newLab(o options) (*lab, error) {
	l := &lab{o: o, dir: o.Keep}
	if l.dir != "" {
		return l, os.MkdirAll(l.dir, 0o755)
	}
	var err error
	l.dir, err = os.MkdirTemp("", "load")
	return l, err
}

// other returns a lab for another build of the proxy, which l.close ends, too.
func (l *lab) other(proxy string) (*lab, error) {
	l.beside = &lab{o: l.o, dir: filepath.Join(l.dir, "other")}
	l.beside.o.Proxy = proxy
	return l.beside, os.MkdirAll(l.beside.dir, 0o755)
}

// close ends all processes, the last first.
func (l *lab) close() {
	if l.beside != nil {
		l.beside.close()
	}
	for i := len(l.procs) - 1; i >= 0; i-- {
		l.procs[i].end()
	}
	if l.o.Keep == "" {
		_ = os.RemoveAll(l.dir)
	}
}

// proc is a process of the measurement.
type proc struct {
	name string
	*exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

// start starts a program whose errors go to a file in the lab's folder.
func (l *lab) start(name, program string, args ...string) (*proc, error) {
	p := &proc{name: name, Cmd: exec.Command(program, args...)}
	log, err := os.Create(filepath.Join(l.dir, name+".log"))
	if err != nil {
		return nil, err
	}
	defer func() { _ = log.Close() }()
	p.Stderr = log
	p.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if p.in, err = p.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := p.StdoutPipe()
	if err != nil {
		return nil, err
	}
	p.out = bufio.NewReader(out)
	if err := p.Start(); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	l.procs = append(l.procs, p)
	return p, nil
}

// self starts this program in another role.
func (l *lab) self(name, role string, args ...string) (*proc, error) {
	me, err := os.Executable()
	if err != nil {
		return nil, err
	}
	return l.start(name, me, append([]string{role}, args...)...)
}

func (p *proc) end() {
	_ = p.in.Close()
	_ = p.Process.Signal(syscall.SIGTERM)
	late := time.AfterFunc(10*time.Second, func() { _ = p.Process.Kill() })
	_, _ = io.Copy(io.Discard, p.out)
	_ = p.Wait()
	late.Stop()
}

// backend starts a null backend. It returns the addresses of IMAP and of the answers for nginx.
func (l *lab) backend(n int) (imap, web string, err error) {
	p, err := l.self(fmt.Sprintf("backend%d", n), roleBackend)
	if err != nil {
		return "", "", err
	}
	_, err = fmt.Fscanln(p.out, &imap, &web)
	return imap, web, err
}

// order has a crowd do something, and waits for its answer.
func (p *proc) order(o order) (outcome, error) {
	var got outcome
	if err := json.NewEncoder(p.in).Encode(o); err != nil {
		return got, err
	}
	line, err := p.out.ReadBytes('\n')
	if err != nil {
		return got, fmt.Errorf("%s has ended: %w", p.name, err)
	}
	if err := json.Unmarshal(line, &got); err != nil {
		return got, err
	}
	return got, got.failed()
}

// freeAddr returns an address at which nothing listens.
func freeAddr() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String(), nil
}

// await tries until there is no error, for at most d.
func await(what string, d time.Duration, try func() error) error {
	for end := time.Now().Add(d); ; time.Sleep(50 * time.Millisecond) {
		err := try()
		if err == nil {
			return nil
		}
		if time.Now().After(end) {
			return fmt.Errorf("%s: %w", what, err)
		}
	}
}

// proxy is the imapproxy that is measured.
type proxy struct {
	*proc
	plain, tls, admin string
	token             string
}

// proxy starts one with these backends. settings are further blocks of its configuration; $DIR is
// the lab's folder.
func (l *lab) proxy(backends []string, settings string) (*proxy, error) {
	p := &proxy{token: "a-token-of-the-measurement"}
	var err error
	for _, a := range []*string{&p.plain, &p.tls, &p.admin} {
		if *a, err = freeAddr(); err != nil {
			return nil, err
		}
	}
	cert, key, err := certificate(l.dir)
	if err != nil {
		return nil, err
	}
	token := filepath.Join(l.dir, "token")
	if err := os.WriteFile(token, []byte(p.token+"\n"), 0o600); err != nil {
		return nil, err
	}
	var list strings.Builder
	for i, a := range backends {
		fmt.Fprintf(&list, "  backend \"b%d\" {\n    address = %q\n  }\n", i+1, a)
	}
	config := filepath.Join(l.dir, "config.hcl")
	text := fmt.Sprintf(proxyConfig, p.plain, p.tls, cert, key, list.String(), p.admin, token) + strings.ReplaceAll(settings, "$DIR", l.dir)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return nil, err
	}
	if p.proc, err = l.start("imapproxy", l.o.Proxy, "serve", "--config", config); err != nil {
		return nil, err
	}
	err = await("the proxy isn't ready (its log is "+l.dir+"/imapproxy.log; -keep keeps it)", patience, func() error {
		_, err := p.get("/readyz")
		return err
	})
	return p, err
}

const proxyConfig = `
hostname = "imap.test"
listener "plain" {
  address        = %q
  tls            = "none"
  cleartext_from = ["127.0.0.0/8"]
}
listener "imaps" {
  address = %q
  tls     = "implicit"
  certificate {
    cert_file = %q
    key_file  = %q
  }
}
auth "backend" {}
backend_login {
  mode = "user"
}
backend_defaults {
  tls = "none"
}
discovery "static" {
%s  probe {
    interval = "5s"
    rise     = 1
  }
}
routing {
  storage = "shared"
}
limits {
  guess_trusted  = ["127.0.0.0/8"]
  tls_handshakes = 0
}
admin {
  address    = %q
  token_file = %q
}
`

// get asks the admin address.
func (p *proxy) get(path string) (string, error) {
	req, err := http.NewRequest(http.MethodGet, "http://"+p.admin+path, nil)
	if err != nil {
		return "", err
	}
	req.Header.Set("Authorization", "Bearer "+p.token)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = errors.New(resp.Status)
	}
	return string(body), err
}

// profile stores one of /debug/pprof/ in the folder of -profile.
func (p *proxy) profile(o options, what, name string) error {
	if o.Profile == "" {
		return nil
	}
	if err := os.MkdirAll(o.Profile, 0o755); err != nil {
		return err
	}
	text, err := p.get("/debug/pprof/" + what)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(o.Profile, name), []byte(text), 0o644)
}

// sessions returns how many sessions have an attachment.
func (p *proxy) sessions(attachment string) (n int, err error) {
	text, err := p.get("/metrics")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "imapproxy_sessions{") && strings.Contains(line, `attachment="`+attachment+`"`) {
			var one float64
			if _, err := fmt.Sscan(line[strings.LastIndexByte(line, ' '):], &one); err != nil {
				return 0, err
			}
			n += int(one)
		}
	}
	return n, nil
}

// runtimeFigure is one of the Go runtime's figures of its memory.
type runtimeFigure struct {
	name  string
	bytes int64
}

// heap returns what the runtime has in use: objects, spans of these with the free places in them, stacks, and what it has given back.
func (p *proxy) heap() (all []runtimeFigure, err error) {
	return p.runtimeFigures("HeapAlloc", "HeapInuse", "HeapIdle", "HeapReleased", "Stack", "MSpan", "GCSys", "OtherSys", "NextGC")
}

// live returns the bytes of objects and stacks, garbage included.
func (p *proxy) live() (bytes int64, err error) {
	all, err := p.runtimeFigures("HeapAlloc", "Stack")
	for _, f := range all {
		bytes += f.bytes
	}
	return bytes, err
}

func (p *proxy) runtimeFigures(names ...string) (all []runtimeFigure, err error) {
	text, err := p.get("/debug/pprof/heap?debug=1")
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		_, rest, ok := strings.Cut(text, "# "+name+" = ")
		if !ok {
			continue
		}
		var n int64
		if _, err := fmt.Sscan(rest, &n); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		all = append(all, runtimeFigure{name, n})
	}
	return all, nil
}
