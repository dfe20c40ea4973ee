package admin

import "net/http"

// route is one path. Open paths require no token, since they show no user's data.
type route struct {
	serve http.HandlerFunc
	open  bool
	post  bool  // it changes something, so only POST is allowed
	owner bool  // it changes nothing, and is the operator's all the same
	body  int64 // what its body may have, in bytes; 0: maxBodyBytes
}

// methods returns the path's methods for the header Allow.
func (r route) methods() string {
	if r.post {
		return http.MethodPost
	}
	return "GET, HEAD"
}

// takes says whether the path allows this method.
func (r route) takes(method string) bool {
	if r.post {
		return method == http.MethodPost
	}
	return method == http.MethodGet || method == http.MethodHead
}
