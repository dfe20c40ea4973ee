package conn

import (
	"crypto/tls"
	"reflect"
	"unsafe"
)

// field returns a pointer to a field of c, nil if tls.Conn has no field of this name and type.
func field[T any](c *tls.Conn, name string) *T {
	f, ok := reflect.TypeFor[tls.Conn]().FieldByName(name)
	if !ok || f.Type != reflect.TypeFor[T]() {
		return nil
	}
	return (*T)(unsafe.Add(unsafe.Pointer(c), f.Offset))
}
