package agree

import (
	"errors"
	"reflect"
	"strings"
	"testing"

	"imapproxy/routing"
)

func testFleet() *Fleet {
	backends := []Backend{
		{ID: "imap1", Address: "10.0.0.1:143", Weight: 100, State: routing.Up, Since: 1},
		{ID: "imap2", Address: "10.0.0.2:143", Weight: 50, State: routing.Up, Tags: []string{"ssd"}, TLS: "starttls", Since: 2},
		{ID: "imap3", Address: "10.0.0.3:143", Weight: 100, State: routing.Draining, Reason: "maintenance", Since: 3},
	}
	return &Fleet{
		Format: Format, Epoch: 7, Catalogue: 123, Users: "lower", Storage: "shared", Buckets: 4096, Backends: backends,
		Kept: []Kept{
			{Epoch: 6, Made: "p1/1", Up: []Share{{"imap1", 100}, {"imap2", 50}, {"imap3", 100}}},
			{Epoch: 7, Made: "p2/1", Up: upOf(backends), Changes: []Change{{User: "ann", To: "imap1"}}},
		},
		Move: Move{Begin: 1000, Users: 1000, Cycle: 5000, Slow: 9000, Pause: 30_000},
		Drains: []Drain{
			{Backend: "imap3", Since: 4, By: "jane", Deadline: 600_000, Rate: 2.5, Begin: 5, Cycle: 100},
			{Backend: "imap9", Since: 5},
		},
		Pauses: []Pause{{Backend: "imap2", Since: 6, Until: 60_006, By: "joe"}},
	}
}

func testRecord() *Record {
	r := &Record{
		Format: Format, ID: "p1", Seq: 3, Acked: 7, Made: "p2/1", TTL: 45_000, Users: map[string]string{"ann": "imap3"},
		Unreachable: []string{"imap2"}, About: About{Version: "1.0", Admin: "10.0.1.1:8080"},
	}
	r.setStay(0, "imap3")
	r.setStay(4095, "imap3")
	r.setStay(17, "imap2")
	return r
}

func encoded(t testing.TB, v any) []byte {
	t.Helper()
	text, err := Encode(v)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestValuesComeBackAsTheyWere(t *testing.T) {
	f, err := DecodeFleet(encoded(t, testFleet()))
	if err != nil || !reflect.DeepEqual(f, testFleet()) {
		t.Errorf("%+v, %v", f, err)
	}
	r, err := DecodeRecord("p1", encoded(t, testRecord()))
	if err != nil || !reflect.DeepEqual(r, testRecord()) {
		t.Errorf("%+v, %v", r, err)
	}
	o := &Overrides{Format: Format, Users: map[string]string{"ann": "imap1"}}
	if got, err := DecodeOverrides(shardOf("ann"), encoded(t, o)); err != nil || !reflect.DeepEqual(got, o) {
		t.Errorf("%+v, %v", got, err)
	}
}

// A value that no proxy wrote, or that breaks the rules that code relies on, is distinguished from a value
// of a later release.
func TestValuesThatAreKeptOut(t *testing.T) {
	replace := func(v any, old, by string) string {
		text := string(encoded(t, v))
		if !strings.Contains(text, old) {
			t.Fatalf("%s isn't in %s", old, text)
		}
		return strings.Replace(text, old, by, 1)
	}
	fleet := func(text string) error { _, err := DecodeFleet([]byte(text)); return err }
	record := func(text string) error { _, err := DecodeRecord("p1", []byte(text)); return err }
	overrides := func(text string) error { _, err := DecodeOverrides(1, []byte(text)); return err }
	for _, c := range []struct {
		name   string
		decode func(string) error
		text   string
		want   error
	}{
		{"a word", fleet, "imap1", ErrForeign},
		{"nothing", fleet, "", ErrForeign},
		{"null", fleet, "null", ErrForeign},
		{"another program's JSON", fleet, `{"epoch": 7}`, ErrForeign},
		{"a format of 0", fleet, `{"format": 0}`, ErrForeign},
		{"a later format, with fields of other types", fleet, `{"format": 2, "epoch": "seven"}`, ErrNewer},
		{"a later record", record, `{"format": 9}`, ErrNewer},
		{"later overrides", overrides, `{"format": 9}`, ErrNewer},
		{"epoch 0", fleet, replace(testFleet(), `"epoch":7,"cat`, `"epoch":0,"cat`), ErrForeign},
		{"no buckets", fleet, replace(testFleet(), `"buckets":4096`, `"buckets":0`), ErrForeign},
		{"buckets that don't divide", fleet, replace(testFleet(), `"buckets":4096`, `"buckets":1000`), ErrForeign},
		{"no normalisation", fleet, replace(testFleet(), `"users":"lower"`, `"users":""`), ErrForeign},
		{"no storage", fleet, replace(testFleet(), `"shared"`, `"some"`), ErrForeign},
		{"nothing kept", fleet, replace(testFleet(), `"kept":[{"epoch":6`, `"kept":[],"was":[{"epoch":6`), ErrForeign},
		{"a gap in what is kept", fleet, replace(testFleet(), `{"epoch":6`, `{"epoch":5`), ErrForeign},
		{"a fleet without its maker", fleet, replace(testFleet(), `"p2/1"`, `""`), ErrForeign},
		{"backends out of order", fleet, replace(testFleet(), `{"id":"imap1","address"`, `{"id":"imap9","address"`), ErrForeign},
		{"a backend without an address", fleet, replace(testFleet(), `"10.0.0.1:143"`, `""`), ErrForeign},
		{"a negative weight", fleet, replace(testFleet(), `"weight":100`, `"weight":-1`), ErrForeign},
		{"a state that isn't one", fleet, replace(testFleet(), `"draining"`, `"away"`), ErrForeign},
		{"up that differs from the backends", fleet, replace(testFleet(), `"state":"draining"`, `"state":"up"`), ErrForeign},
		{"a schedule beyond all times", fleet, replace(testFleet(), `"cycle":5000`, `"cycle":9000000000000000000`), ErrForeign},
		{"a drain of before all times", fleet, replace(testFleet(), `"backend":"imap9","since":5`, `"backend":"imap9","since":-5`), ErrForeign},
		{"a drain of no backend", fleet, replace(testFleet(), `"backend":"imap9"`, `"backend":""`), ErrForeign},
		{"a drain at a negative rate", fleet, replace(testFleet(), `"rate":2.5`, `"rate":-1`), ErrForeign},
		{"a drain by a book", fleet, replace(testFleet(), `"by":"jane"`, `"by":"`+strings.Repeat("x", 200)+`"`), ErrForeign},
		{"two pauses of one backend", fleet, replace(testFleet(), `"pauses":[`, `"pauses":[{"backend":"imap2","since":7,"until":8},`), ErrForeign},
		{"a pause without an end", fleet, replace(testFleet(), `"until":60006`, `"until":0`), ErrForeign},
		{"two drains of one backend", fleet, replace(testFleet(), `"backend":"imap9"`, `"backend":"imap3"`), ErrForeign},
		{"a change of nothing", fleet, replace(testFleet(), `"user":"ann","to":"imap1"`, `"user":"ann"`), ErrForeign},
		{"another proxy's record", record, replace(testRecord(), `"id":"p1"`, `"id":"p2"`), ErrForeign},
		{"a record that acks nothing", record, replace(testRecord(), `"acked":7`, `"acked":0`), ErrForeign},
		{"a record without a TTL", record, replace(testRecord(), `"ttl":45000`, `"ttl":0`), ErrForeign},
		{"a bucket at two backends", record, `{"format":1,"id":"p1","seq":1,"acked":1,"made":"x","ttl":45000,"buckets":{"a":"AQ","b":"AQ"}}`, ErrForeign},
		{"a bucket beyond the last", record, `{"format":1,"id":"p1","seq":1,"acked":1,"made":"x","ttl":45000,"buckets":{"a":"` + strings.Repeat("A", 700) + `AQ"}}`, ErrForeign},
		{"a set of no bucket", record, `{"format":1,"id":"p1","seq":1,"acked":1,"made":"x","ttl":45000,"buckets":{"a":"AA"}}`, ErrForeign},
		{"a set with zeros at its end", record, `{"format":1,"id":"p1","seq":1,"acked":1,"made":"x","ttl":45000,"buckets":{"a":"AQ` + strings.Repeat("A", 700) + `"}}`, nil},
		{"a set that isn't base64", record, `{"format":1,"id":"p1","seq":1,"acked":1,"made":"x","ttl":45000,"buckets":{"a":"!"}}`, ErrForeign},
		{"a user without a name", record, replace(testRecord(), `"ann"`, `""`), ErrForeign},
		{"an override in another's key", overrides, `{"format":1,"users":{"ann":"imap1"}}`, ErrForeign},
		{"a value that is too long", fleet, `{"format":1,"x":"` + strings.Repeat("x", maxValue) + `"}`, ErrForeign},
	} {
		if err := c.decode(c.text); !errors.Is(err, c.want) || (err == nil) != (c.want == nil) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

// While two releases write the same format, the older one carries the fields that it doesn't know over to
// the next fleet.
func TestFieldsOfALaterReleaseStay(t *testing.T) {
	text := strings.Replace(string(encoded(t, testFleet())), `"epoch":7,"cat`, `"epoch":7,"later":{"a":[1,"<&>"]},"other":null,"cat`, 1)
	f, err := DecodeFleet([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	next := *f
	next.Epoch = 8
	next.Kept = append(next.Kept[:2:2], Kept{Epoch: 8, Made: "p1/9", Up: f.newest().Up})
	for _, want := range []string{`"later":{"a":[1,"<&>"]}`, `"other":null`} {
		if got := string(encoded(t, &next)); strings.Count(got, want) != 1 {
			t.Errorf("%s isn't once in %s", want, got)
		}
	}
	if _, err := DecodeFleet(encoded(t, &next)); err != nil {
		t.Error(err)
	}
}

// Any value in Consul is left out with an error, or can be used and written again after decoding.
func FuzzReading(f *testing.F) {
	f.Add("fleet", encoded(f, testFleet()))
	f.Add("proxies/p1", encoded(f, testRecord()))
	f.Add("overrides/00", encoded(f, &Overrides{Format: Format, Users: map[string]string{}}))
	f.Add("overrides/zz", []byte("{}"))
	f.Add("proxies/", []byte(""))
	f.Add("proxies/p1", []byte(`{"format":1,"id":"p1","seq":1,"acked":1,"made":"0","ttl":10000,"buckets":{"0":"AA"}}`)) // zeros only
	f.Add("leader", []byte(`{"format":2}`))
	f.Fuzz(func(t *testing.T, key string, value []byte) {
		var d Decoder
		r := d.Reading(5, false, []Pair{{Key: key, Value: value, ModifyIndex: 5}})
		if r.Fleet != nil {
			p := newPlaces()
			tablesOf(r.Fleet, nil, &p)
			again, err := DecodeFleet(encoded(t, r.Fleet))
			if err != nil || again.Epoch != r.Fleet.Epoch {
				t.Errorf("written again: %v", err)
			}
			r.Fleet.Move.turn(r.Fleet.Buckets-1, r.Fleet.Buckets, epoch0)
		}
		for _, p := range r.Proxies {
			p.stay(4095)
			if c := p.clone(); !reflect.DeepEqual(stays(c), stays(p.Record)) {
				t.Error("a copy differs")
			}
			if _, err := DecodeRecord(p.ID, encoded(t, p.Record)); err != nil {
				t.Errorf("written again: %v", err)
			}
		}
	})
}

func TestADecoderKeepsWhatAnOperatorOverwrites(t *testing.T) {
	var d Decoder
	good := Pair{Key: "proxies/p1", Value: encoded(t, testRecord()), ModifyIndex: 5, Session: "s"}
	if r := d.Reading(5, false, []Pair{good}); len(r.Proxies) != 1 || len(r.Problems) != 0 {
		t.Fatalf("%+v", r)
	}
	typo := Pair{Key: "proxies/p1", Value: []byte("hello"), ModifyIndex: 6, Session: "s"}
	r := d.Reading(6, false, []Pair{typo})
	if len(r.Proxies) != 1 || r.Proxies[0].Index != 6 || len(r.Problems) != 1 || r.Unknown != 0 {
		t.Errorf("%+v", r)
	}
	var fresh Decoder
	if r := fresh.Reading(6, false, []Pair{typo}); len(r.Proxies) != 0 || r.Unknown != 1 {
		t.Errorf("a proxy of which nothing is known doesn't count: %+v", r)
	}
	typo.Session = ""
	if r := fresh.Reading(7, false, []Pair{{Key: "proxies/note", Value: []byte("hello"), ModifyIndex: 7}}); r.Unknown != 0 || len(r.Problems) != 1 {
		t.Errorf("an operator's note counts as a proxy: %+v", r)
	}
}

// What an operator is told of a key that isn't the proxies': they write again only what is theirs.
func TestWhatToDoAboutAKey(t *testing.T) {
	for key, want := range map[string]string{
		"fleet": "leave it there", "overrides/07": "leave it there", "proxies/p9": "consul kv delete x/proxies/p9",
		"overrides/zz": "consul kv delete x/overrides/zz", "overrides/64": "consul kv delete x/overrides/64", "foo": "consul kv delete x/foo",
	} {
		if got := (Problem{Key: key, Err: ErrForeign}).Help("x/" + key); !strings.Contains(got, want) {
			t.Errorf("%s: %q", key, got)
		}
	}
}
