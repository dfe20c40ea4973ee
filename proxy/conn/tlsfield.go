package conn

import (
	"crypto/tls"
	"reflect"
	"unsafe"
)

// field is a field of a tls.Conn's, nil where there is none of this name and type.
func field[T any](c *tls.Conn, name string) *T {
	f, ok := reflect.TypeFor[tls.Conn]().FieldByName(name)
	if !ok || f.Type != reflect.TypeFor[T]() {
		return nil
	}
	return (*T)(unsafe.Add(unsafe.Pointer(c), f.Offset))
}
