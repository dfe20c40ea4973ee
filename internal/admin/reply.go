package admin

import (
	"encoding/json"
	"net/http"
)

func fail(w http.ResponseWriter, status int, code, message string) {
	reply(w, status, Error{ErrorBody{Code: code, Message: message}})
}

func reply(w http.ResponseWriter, status int, v any) {
	b, err := json.Marshal(v)
	if err != nil {
		panic("admin: our own types marshal") // no maps of odd keys, no funcs in them
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(append(b, '\n')) // the client went away
}
