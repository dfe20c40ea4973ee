package agree

import (
	"reflect"
	"testing"

	"imapproxy/routing"
)

// Each field of a backend makes a new fleet, except the reason.
func TestEachFieldOfABackendIsCompared(t *testing.T) {
	for i := range reflect.TypeFor[Backend]().NumField() {
		a := Backend{ID: "b1", Tags: []string{"x"}}
		b := Backend{ID: "b1", Tags: []string{"x"}}
		if !a.same(&b) {
			t.Fatal("equal backends differ")
		}
		f := reflect.ValueOf(&b).Elem().Field(i)
		switch f.Kind() {
		case reflect.String:
			f.SetString("other")
		case reflect.Bool:
			f.SetBool(true)
		case reflect.Slice:
			f.Set(reflect.ValueOf([]string{"y"}))
		default:
			f.Set(reflect.ValueOf(routing.Down).Convert(f.Type()))
		}
		if name := reflect.TypeFor[Backend]().Field(i).Name; a.same(&b) != (name == "Reason") {
			t.Errorf("a difference of %s is wrongly treated", name)
		}
	}
}
