package app

import (
	"regexp"
	"testing"

	"imapproxy/internal/imaptest"
	"imapproxy/internal/task"
)

// Proxies that have the same hostname for their clients aren't one instance in telemetry.
func TestEachProxyIsAnInstanceOfItsOwn(t *testing.T) {
	imaptest.VerifyNoLeaks(t)
	t.Setenv("OTEL_SERVICE_NAME", "mail-edge")
	t.Setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment=test")
	text := settings("127.0.0.1:1")
	seen := map[string]bool{}
	for range 2 {
		a := open(t, Options{File: file(t, text)})
		running := task.Start(a.Run)
		<-a.Ready()
		info := regexp.MustCompile(`(?m)^target_info\{.*$`).FindString(scraped(t, a.AdminAddr()))
		id := regexp.MustCompile(`service_instance_id="([^"]+)"`).FindStringSubmatch(info)
		if len(id) != 2 || seen[id[1]] || !regexp.MustCompile(`service_name="mail-edge"`).MatchString(info) || !regexp.MustCompile(`deployment_environment="test"`).MatchString(info) {
			t.Errorf("after %v: %s", seen, info)
		} else {
			seen[id[1]] = true
		}
		end(t, a, running)
	}
}
