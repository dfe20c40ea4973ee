package consultest

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"
)

// Service is a registration with the agent, in Consul's own words.
type Service struct {
	ID      string            `json:"ID,omitempty"`
	Name    string            `json:"Name"`
	Address string            `json:"Address,omitempty"`
	Port    int               `json:"Port,omitempty"`
	Tags    []string          `json:"Tags,omitempty"`
	Meta    map[string]string `json:"Meta,omitempty"`
	Weights *Weights          `json:"Weights,omitempty"`
	Check   *Check            `json:"Check,omitempty"`
}

// Weights are a service's, for its two healthy states.
type Weights struct{ Passing, Warning int }

// Check is a health check; set TTL (see Agent.TTL), or TCP with an Interval.
// Status is what it begins as; Consul's default is critical.
type Check struct {
	CheckID  string `json:"CheckID,omitempty"`
	TTL      string `json:"TTL,omitempty"`
	TCP      string `json:"TCP,omitempty"`
	Interval string `json:"Interval,omitempty"`
	Status   string `json:"Status,omitempty"`
}

// Register adds or replaces a service.
func (a *Agent) Register(s Service) {
	a.t.Helper()
	body, err := json.Marshal(s)
	if err != nil {
		a.t.Fatal(err)
	}
	a.must(http.MethodPut, "/v1/agent/service/register", body)
}

// Node is a node as the catalogue has it. One that is registered with the ID of another name's
// node is that node, renamed.
type Node struct {
	ID      string // UUID; "" as external nodes have it
	Name    string
	Address string
}

// Catalog registers a service on another node, straight in the catalogue. It is passing
// unless its Check says something else.
func (a *Agent) Catalog(n Node, s Service) {
	a.t.Helper()
	status := "passing"
	if s.Check != nil {
		status = s.Check.Status
	}
	weights := s.Weights
	if weights == nil {
		weights = &Weights{1, 1}
	}
	body, err := json.Marshal(map[string]any{
		"ID": n.ID, "Node": n.Name, "Address": n.Address,
		"Service": map[string]any{"ID": s.ID, "Service": s.Name, "Address": s.Address, "Port": s.Port, "Tags": s.Tags, "Meta": s.Meta, "Weights": weights},
		"Check":   map[string]any{"CheckID": "service:" + s.ID, "Name": "check", "ServiceID": s.ID, "Status": status},
	})
	if err != nil {
		a.t.Fatal(err)
	}
	a.must(http.MethodPut, "/v1/catalog/register", body)
}

// Uncatalog removes a service of another node, or with "" the node.
func (a *Agent) Uncatalog(node, id string) {
	a.t.Helper()
	body, err := json.Marshal(map[string]string{"Node": node, "ServiceID": id})
	if err != nil {
		a.t.Fatal(err)
	}
	a.must(http.MethodPut, "/v1/catalog/deregister", body)
}

// Deregister removes a service.
func (a *Agent) Deregister(id string) {
	a.t.Helper()
	a.must(http.MethodPut, "/v1/agent/service/deregister/"+url.PathEscape(id), nil)
}

// Maintain puts a service into maintenance, as `consul maint -enable -service` does.
func (a *Agent) Maintain(id, reason string) {
	a.t.Helper()
	a.must(http.MethodPut, "/v1/agent/service/maintenance/"+url.PathEscape(id)+"?enable=true&reason="+url.QueryEscape(reason), nil)
}

// EndMaintenance takes it out again.
func (a *Agent) EndMaintenance(id string) {
	a.t.Helper()
	a.must(http.MethodPut, "/v1/agent/service/maintenance/"+url.PathEscape(id)+"?enable=false", nil)
}

// MaintainNode puts the whole node into maintenance.
func (a *Agent) MaintainNode(reason string) {
	a.t.Helper()
	a.must(http.MethodPut, "/v1/agent/maintenance?enable=true&reason="+url.QueryEscape(reason), nil)
}

// EndNodeMaintenance takes the node out again.
func (a *Agent) EndNodeMaintenance() {
	a.t.Helper()
	a.must(http.MethodPut, "/v1/agent/maintenance?enable=false", nil)
}

// TTL sets a TTL check to "passing", "warning" or "critical". The check of a
// service is called "service:" and the service's id, unless it was named.
func (a *Agent) TTL(checkID, status string) {
	a.t.Helper()
	body, err := json.Marshal(map[string]string{"Status": status})
	if err != nil {
		a.t.Fatal(err)
	}
	a.must(http.MethodPut, "/v1/agent/check/update/"+url.PathEscape(checkID), body)
}

// PutKV writes a key; the key is taken as it stands.
func (a *Agent) PutKV(key, value string) {
	a.t.Helper()
	a.must(http.MethodPut, "/v1/kv/"+url.PathEscape(key), []byte(value))
}

// DeleteKV removes a key.
func (a *Agent) DeleteKV(key string) {
	a.t.Helper()
	a.must(http.MethodDelete, "/v1/kv/"+url.PathEscape(key), nil)
}

// Get returns what the agent answers to a GET of a path such as
// /v1/agent/service/ID, and whether that was a 200.
func (a *Agent) Get(path string) (string, bool) {
	text, err := a.do(http.MethodGet, path, nil)
	return text, err == nil
}

// Index returns Consul's index of what a path such as /v1/health/service/NAME answers.
func (a *Agent) Index(path string) (uint64, error) {
	res, err := a.client.Get("http://" + a.Address() + path)
	if err != nil {
		return 0, err
	}
	defer res.Body.Close()
	return strconv.ParseUint(res.Header.Get("X-Consul-Index"), 10, 64)
}

func (a *Agent) must(method, path string, body []byte) {
	a.t.Helper()
	if _, err := a.do(method, path, body); err != nil {
		a.t.Fatal(err)
	}
}
