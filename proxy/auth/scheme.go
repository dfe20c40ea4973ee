package auth

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/go-crypt/crypt/algorithm"
	"github.com/go-crypt/crypt/algorithm/argon2"
	"github.com/go-crypt/crypt/algorithm/bcrypt"
	"github.com/go-crypt/crypt/algorithm/shacrypt"
)

// Bounds of a hash's cost. The proxy pays for a hash at every login, also for clients that guess passwords;
// these bounds allow some seconds of a processor.
const (
	maxBcryptCost   = 16
	maxShaRounds    = 10_000_000
	maxArgonMemory  = 1 << 20 // KiB: 1 GiB
	maxArgonPasses  = 64
	maxArgonThreads = 64
	// Memory times passes, in KiB: 1 GiB eight times over.
	maxArgonWork = 8 << 20
)

// maxPassword is the length of the longest password, in bytes, that is compared with an entry; a longer one
// is wrong. SHA-crypt's time grows with the square of the length.
const maxPassword = 1024

// schemesKnown is part of error texts.
const schemesKnown = "{BLF-CRYPT}, {ARGON2ID}, {SHA512-CRYPT}, {SHA256-CRYPT}, {CRYPT}, {SCRAM-SHA-256}, {SCRAM-SHA-1} or {PLAIN}"

// verifier is one stored password. It is immutable.
type verifier struct {
	// class names scheme and cost: verifiers of one class take equally long.
	class string
	// plain is the SHA-256 of a clear-text password, so that the comparison takes the same time for all
	// lengths; nil for hashes.
	plain *[sha256.Size]byte
	// digest is the hash; nil for clear text and for SCRAM.
	digest algorithm.Digest
	// keys are those of SCRAM; nil for other schemes.
	keys *Keys
}

// cheap says whether matching needs no slot of Hashing.
func (v *verifier) cheap() bool { return v.plain != nil }

// matches compares in constant time. bcrypt ignores bytes after the 72nd, as in every crypt(3).
func (v *verifier) matches(password string) bool {
	if v.plain != nil {
		sum := sha256.Sum256([]byte(password))
		return subtle.ConstantTimeCompare(sum[:], v.plain[:]) == 1
	}
	if v.keys != nil {
		return v.keys.matches(password)
	}
	ok, err := v.digest.MatchAdvanced(password)
	return err == nil && ok
}

// errLocked means that a password field matches no password: it is empty, "*", or begins with "!", as usermod
// -L writes it.
var errLocked = errors.New("locked")

// parsePassword parses Dovecot's form of a password, {SCHEME}hash; a crypt hash may have no scheme. Its
// errors never quote the field: it may be a password.
func parsePassword(field string) (*verifier, error) {
	scheme, value := "", field
	if strings.HasPrefix(field, "{") {
		var ok bool
		scheme, value, ok = strings.Cut(field[1:], "}")
		if !ok || !schemeName(scheme) {
			return nil, fmt.Errorf("the password's scheme isn't of the form {SCHEME}: write %s", schemesKnown)
		}
		scheme = strings.ToUpper(scheme)
	}
	if value == "*" || strings.HasPrefix(value, "!") {
		if scheme != "PLAIN" && scheme != "CLEARTEXT" && scheme != "CLEAR" {
			return nil, errLocked
		}
	}
	switch scheme {
	case "PLAIN", "CLEARTEXT", "CLEAR":
		if value == "" {
			return nil, errors.New("empty password: leave the whole field empty to lock the account")
		}
		sum := sha256.Sum256([]byte(value))
		return &verifier{class: "plain", plain: &sum}, nil
	case "BLF-CRYPT", "BCRYPT":
		return parseBcrypt(value)
	case "ARGON2ID":
		return parseArgon2id(value)
	case "SHA512-CRYPT":
		return parseShacrypt(value, "6", 86)
	case "SHA256-CRYPT":
		return parseShacrypt(value, "5", 43)
	case MechanismScramSHA256, MechanismScramSHA1:
		return parseScram(scheme, value)
	case "", "CRYPT":
	default:
		return nil, fmt.Errorf("password scheme {%s} isn't supported: write %s", scheme, schemesKnown)
	}
	switch {
	case field == "":
		return nil, errLocked
	case strings.HasPrefix(value, "$2"):
		return parseBcrypt(value)
	case strings.HasPrefix(value, "$argon2id$"):
		return parseArgon2id(value)
	case strings.HasPrefix(value, "$6$"):
		return parseShacrypt(value, "6", 86)
	case strings.HasPrefix(value, "$5$"):
		return parseShacrypt(value, "5", 43)
	case scheme == "" && !strings.HasPrefix(value, "$"):
		return nil, fmt.Errorf("the password has no scheme: write %s before it", schemesKnown)
	}
	return nil, errors.New("this crypt format isn't supported: use bcrypt ($2y$), argon2id, sha512-crypt ($6$) or sha256-crypt ($5$)")
}

// schemeName says whether s may be the name between the braces (and may be logged).
func schemeName(s string) bool {
	return s != "" && len(s) <= 32 && strings.IndexFunc(s, func(r rune) bool {
		return (r < 'A' || r > 'Z') && (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-' && r != '.' && r != '_'
	}) < 0
}

// parseBcrypt parses $2y$COST$ and 53 characters of salt and hash. $2x$ marks hashes of a faulty
// implementation, which can't be checked.
func parseBcrypt(hash string) (*verifier, error) {
	bad := errors.New("not a bcrypt hash: expected $2y$COST$ (or $2a$, $2b$) and 53 characters")
	parts := strings.Split(hash, "$")
	if len(parts) != 4 || parts[0] != "" || (parts[1] != "2a" && parts[1] != "2b" && parts[1] != "2y") ||
		len(parts[2]) != 2 || len(parts[3]) != 53 || !hashChars(parts[3], "./") {
		return nil, bad
	}
	cost, err := number(parts[2], 99)
	if err != nil || cost < 4 {
		return nil, bad
	}
	if cost > maxBcryptCost {
		return nil, fmt.Errorf("bcrypt with cost %d would stall logins: use at most %d", cost, maxBcryptCost)
	}
	digest, err := bcrypt.Decode(hash)
	if err != nil {
		return nil, bad
	}
	return &verifier{class: "bcrypt/" + parts[2], digest: digest}, nil
}

// parseShacrypt parses $6$[rounds=N]$salt$hash, or $5$.
func parseShacrypt(hash, id string, length int) (*verifier, error) {
	bad := fmt.Errorf("not a SHA-crypt hash of this scheme: expected $%s$SALT$ and %d characters", id, length)
	parts := strings.Split(hash, "$")
	if len(parts) < 4 || parts[0] != "" || parts[1] != id {
		return nil, bad
	}
	rounds := 5000
	if text, ok := strings.CutPrefix(parts[2], "rounds="); ok {
		var err error
		if rounds, err = number(text, 1<<30); err != nil || len(parts) != 5 {
			return nil, bad
		}
		// crypt(3) never writes fewer than 1,000.
		if rounds < 1000 || rounds > maxShaRounds {
			return nil, fmt.Errorf("SHA-crypt with %d rounds isn't accepted: use 1000 to %d", rounds, maxShaRounds)
		}
	} else if len(parts) != 4 {
		return nil, bad
	}
	salt, key := parts[len(parts)-2], parts[len(parts)-1]
	if len(salt) > 16 || len(key) != length || !hashChars(key, "./") {
		return nil, bad
	}
	digest, err := shacrypt.Decode(hash)
	if err != nil {
		return nil, bad
	}
	return &verifier{class: "sha" + id + "/" + strconv.Itoa(rounds), digest: digest}, nil
}

// parseArgon2id parses $argon2id$v=19$m=KIB,t=PASSES,p=THREADS$salt$hash.
func parseArgon2id(hash string) (*verifier, error) {
	bad := errors.New("not an argon2id hash: expected $argon2id$v=19$m=…,t=…,p=…$SALT$HASH")
	parts := strings.Split(hash, "$")
	if len(parts) != 6 || parts[0] != "" || parts[1] != "argon2id" || parts[2] != "v=19" {
		return nil, bad
	}
	var m, t, p int
	for i, field := range strings.Split(parts[3], ",") {
		if i > 2 {
			return nil, bad
		}
		text, ok := strings.CutPrefix(field, []string{"m=", "t=", "p="}[i])
		n, err := number(text, 1<<30)
		if !ok || err != nil {
			return nil, bad
		}
		*[]*int{&m, &t, &p}[i] = n
	}
	// RFC 9106 §3.1: at least one pass and one thread, 8 KiB a thread, 4 bytes of hash; all tools use salts
	// of 8 bytes or more.
	salt, key := parts[4], parts[5]
	if t < 1 || p < 1 || m < 8*p || len(salt) < 8 || len(salt) > 128 || len(key) < 16 || len(key) > 128 ||
		!hashChars(salt, "+/") || !hashChars(key, "+/") {
		return nil, bad
	}
	if m > maxArgonMemory || t > maxArgonPasses || p > maxArgonThreads || m*t > maxArgonWork {
		return nil, fmt.Errorf("argon2id with m=%d,t=%d,p=%d would stall logins: use at most m=%d,t=%d,p=%d and m×t=%d",
			m, t, p, maxArgonMemory, maxArgonPasses, maxArgonThreads, maxArgonWork)
	}
	digest, err := argon2.Decode(hash)
	if err != nil {
		return nil, bad
	}
	return &verifier{class: "argon2id/" + parts[3], digest: digest}, nil
}

// parseScram parses ITERATIONS,SALT,STOREDKEY,SERVERKEY, the last three in base64, as Dovecot and gsasl write them
// behind {SCRAM-SHA-256} or {SCRAM-SHA-1}.
func parseScram(mechanism, value string) (*verifier, error) {
	bad := fmt.Errorf("not keys of %s: expected ITERATIONS,SALT,STOREDKEY,SERVERKEY", mechanism)
	parts := strings.Split(value, ",")
	if len(parts) != 4 {
		return nil, bad
	}
	n, err := number(parts[0], 1<<30)
	if err != nil {
		return nil, bad
	}
	if n < minScramIterations || n > maxScramIterations {
		return nil, fmt.Errorf("%s with %d iterations isn't accepted: use %d to %d", mechanism, n, minScramIterations, maxScramIterations)
	}
	var raw [3]string
	for i, part := range parts[1:] {
		b, err := base64.StdEncoding.Strict().DecodeString(part)
		if err != nil || strings.ContainsAny(part, "\r\n") {
			return nil, bad
		}
		raw[i] = string(b)
	}
	size := scramHash(mechanism)().Size()
	if raw[0] == "" || len(raw[0]) > maxScramSalt || len(raw[1]) != size || len(raw[2]) != size {
		return nil, bad
	}
	return &verifier{
		class: strings.ToLower(mechanism) + "/" + parts[0],
		keys:  &Keys{mechanism: mechanism, salt: raw[0], iterations: n, stored: raw[1], server: raw[2]},
	}, nil
}

// keysFor returns the keys for a mechanism, with -PLUS or without.
func (v *verifier) keysFor(mechanism string) (Keys, bool) {
	if v.keys == nil || v.keys.mechanism != strings.TrimSuffix(mechanism, plusSuffix) {
		return Keys{}, false
	}
	return *v.keys, true
}

// hashChars says whether s has only letters, digits and the two extra characters.
func hashChars(s, extra string) bool {
	for i := range len(s) {
		c := s[i]
		if (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') && (c < '0' || c > '9') && strings.IndexByte(extra, c) < 0 {
			return false
		}
	}
	return true
}

// number parses decimal digits up to limit.
func number(s string, limit int) (int, error) {
	n, err := strconv.ParseUint(s, 10, 31)
	if err != nil || int(n) > limit {
		return 0, errors.New("not a number")
	}
	return int(n), nil
}
