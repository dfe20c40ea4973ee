package admin

import (
	"context"
	"net/http"
)

// configPath is the path of the running configuration.
const configPath = "/v1/config"

// config answers /v1/config.
func (s *Server) config(w http.ResponseWriter, r *http.Request) {
	if _, ok := parameters(w, r); ok {
		reply(w, http.StatusOK, s.opts.Config())
	}
}

// Config asks for /v1/config.
func (c *Client) Config(ctx context.Context) (Config, error) {
	var answer Config
	return answer, c.get(ctx, configPath, nil, &answer)
}

// ClusterConfig asks for /v1/cluster/config.
func (c *Client) ClusterConfig(ctx context.Context) (Cluster[Config], error) {
	return ofAll[Config](ctx, c, configPath, nil)
}
