package consultest

import (
	"encoding/json"
	"net/http"
)

// Token is an ACL token with a policy of its own.
type Token struct {
	Secret   string
	accessor string
	policy   string // id
	agent    *Agent
}

// NewToken makes a token that may do what the rules say. The name is the policy's.
func (a *Agent) NewToken(name, rules string) *Token {
	a.t.Helper()
	t := &Token{agent: a}
	t.policy = a.put("/v1/acl/policy", map[string]any{"Name": name, "Rules": rules})["ID"]
	made := a.put("/v1/acl/token", map[string]any{"Policies": []any{map[string]string{"ID": t.policy}}})
	t.Secret, t.accessor = made["SecretID"], made["AccessorID"]
	return t
}

// Allow replaces what the token may do.
func (t *Token) Allow(name, rules string) {
	t.agent.t.Helper()
	t.agent.put("/v1/acl/policy/"+t.policy, map[string]any{"ID": t.policy, "Name": name, "Rules": rules})
}

// Delete ends the token.
func (t *Token) Delete() {
	t.agent.t.Helper()
	t.agent.must(http.MethodDelete, "/v1/acl/token/"+t.accessor, nil)
}

// put sends JSON and returns the texts of the answer.
func (a *Agent) put(path string, body any) map[string]string {
	a.t.Helper()
	text, err := json.Marshal(body)
	if err != nil {
		a.t.Fatal(err)
	}
	answer, err := a.do(http.MethodPut, path, text)
	if err != nil {
		a.t.Fatal(err)
	}
	var all map[string]any
	if err := json.Unmarshal([]byte(answer), &all); err != nil {
		a.t.Fatal(err)
	}
	texts := map[string]string{}
	for name, value := range all {
		if s, ok := value.(string); ok {
			texts[name] = s
		}
	}
	return texts
}
