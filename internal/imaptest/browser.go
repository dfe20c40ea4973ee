package imaptest

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"
)

// BrowserProgram is Debian's Chromium without windows, which ./test installs.
const BrowserProgram = "chromium-headless-shell"

// browserPatience bounds each wait for the browser.
const browserPatience = 2 * time.Minute

// A Browser shows pages, and runs scripts in them. It belongs to one goroutine.
type Browser struct {
	t       testing.TB
	to      *os.File
	answers chan browserAnswer // closed at the browser's end
	n       int
	session string // of the page
}

type browserAnswer struct {
	ID     int             `json:"id"`
	Result json.RawMessage `json:"result"`
	Error  *struct {
		Message string `json:"message"`
	} `json:"error"`
}

// NewBrowser starts a browser for a test. Where there is none, it skips the test, or fails it if the real servers of ./test are there.
func NewBrowser(t testing.TB) *Browser {
	t.Helper()
	if _, err := exec.LookPath(BrowserProgram); err != nil {
		if os.Getenv("IMAPPROXY_REAL") != "" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	dir, err := os.MkdirTemp("", "browser-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) }) // a process of the browser's may still write there
	in, to, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	from, out, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	// Messages of the DevTools protocol end with a NUL; the browser reads them at descriptor 3 and writes to 4.
	cmd := exec.Command(BrowserProgram, "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe", "--user-data-dir="+dir, "about:blank")
	cmd.ExtraFiles = []*os.File{in, out}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_, _ = in.Close(), out.Close()
	b := &Browser{t: t, to: to, answers: make(chan browserAnswer, 16)}
	var reading sync.WaitGroup
	reading.Go(func() { b.read(from) })
	t.Cleanup(func() {
		_ = to.Close()
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		_ = from.Close()
		for range b.answers { // what wasn't awaited
		}
		reading.Wait()
	})
	var target struct {
		ID      string `json:"targetId"`
		Session string `json:"sessionId"`
	}
	b.call("Target.createTarget", map[string]any{"url": "about:blank"}, &target)
	b.call("Target.attachToTarget", map[string]any{"targetId": target.ID, "flatten": true}, &target)
	b.session = target.Session
	return b
}

// read passes the answers on. Events aren't needed.
func (b *Browser) read(from *os.File) {
	defer close(b.answers)
	r := bufio.NewReader(from)
	for {
		text, err := r.ReadString(0)
		if err != nil {
			return
		}
		var a browserAnswer
		if json.Unmarshal([]byte(strings.TrimSuffix(text, "\x00")), &a) == nil && a.ID > 0 {
			b.answers <- a
		}
	}
}

func (b *Browser) call(method string, params map[string]any, result any) {
	b.t.Helper()
	b.n++
	message := map[string]any{"id": b.n, "method": method, "params": params}
	if b.session != "" {
		message["sessionId"] = b.session
	}
	text, err := json.Marshal(message)
	if err != nil {
		b.t.Fatal(err)
	}
	if _, err := b.to.Write(append(text, 0)); err != nil {
		b.t.Fatalf("%s: %v", method, err)
	}
	late := time.NewTimer(browserPatience)
	defer late.Stop()
	for {
		select {
		case a, ok := <-b.answers:
			switch {
			case !ok:
				b.t.Fatalf("%s: the browser has ended", method)
			case a.ID != b.n:
				continue
			case a.Error != nil:
				b.t.Fatalf("%s: %s", method, a.Error.Message)
			}
			if err := json.Unmarshal(a.Result, result); err != nil {
				b.t.Fatalf("%s: %v", method, err)
			}
			return
		case <-late.C:
			b.t.Fatalf("%s: no answer", method)
		}
	}
}

// Open shows a page in a window of a width.
func (b *Browser) Open(url string, width int) {
	b.t.Helper()
	var none struct{}
	b.call("Emulation.setDeviceMetricsOverride", map[string]any{"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": false}, &none)
	b.call("Page.navigate", map[string]any{"url": url}, &none)
}

// Run evaluates a script, which may be a promise, and returns its value as text.
func (b *Browser) Run(script string) string {
	b.t.Helper()
	var answer struct {
		Result struct {
			Value any `json:"value"`
		} `json:"result"`
		Exception *struct {
			Text   string `json:"text"`
			Object struct {
				Description string `json:"description"`
			} `json:"exception"`
		} `json:"exceptionDetails"`
	}
	b.call("Runtime.evaluate", map[string]any{"expression": script, "awaitPromise": true, "returnByValue": true}, &answer)
	if answer.Exception != nil {
		return answer.Exception.Text + " " + answer.Exception.Object.Description
	}
	return fmt.Sprint(answer.Result.Value)
}

// Await waits until a script's value is want, and fails the test with the page's text if it doesn't become that.
func (b *Browser) Await(script, want string) {
	b.t.Helper()
	got := ""
	for end := time.Now().Add(browserPatience); time.Now().Before(end); {
		// The page looks whenever something of it changes, and after a second at most: it may be another page by then.
		if got = b.Run(script); got == want {
			return
		}
		b.Run(`new Promise((done) => {
			const seen = new MutationObserver(() => { seen.disconnect(); done(); });
			seen.observe(document, { subtree: true, childList: true, attributes: true, characterData: true });
			setTimeout(() => { seen.disconnect(); done(); }, 1000);
		})`)
	}
	b.t.Fatalf("%s is %s, not %s. The page:\n%.6000s", script, got, want, b.Run("document.body.innerText"))
}
