package configuration

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/bunting-flags/terraform-provider-bunting/internal/client"
	"github.com/bunting-flags/terraform-provider-bunting/internal/yamlfile"
)

// kind is a kind of setting whose value is a T. The error of parse goes on from
// `listen is "…", `.
type kind[T any] struct {
	name  string // for the help
	yaml  string // the type of the scalar in the file
	parse func(text string) (T, error)
	show  func(text string) string // leaves out what is secret; nil: nothing is
}

// maxDuration bounds every length of time: more is a slip of the unit, and eight
// times as much must not overflow.
const maxDuration = 365 * 24 * time.Hour

// duration is a length of time, at least the least.
func duration(least time.Duration) kind[time.Duration] {
	return kind[time.Duration]{"duration", yamlfile.String, func(text string) (time.Duration, error) {
		d, err := time.ParseDuration(text)
		_, unitless := strconv.Atoi(text)
		switch {
		case unitless == nil && text != "0":
			return 0, fmt.Errorf("which has no unit. Write one behind it, like %ss", text)
		case err != nil:
			return 0, errors.New("which is no length of time. Write one like 500ms, 30s or 5m")
		case d < least:
			return 0, fmt.Errorf("but it has to be %s at least", least)
		case d > maxDuration:
			return 0, errors.New("but it can be a year at most, 8760h")
		}
		return d, nil
	}, nil}
}

// integer is a whole number between two others.
func integer(least, most int) kind[int] {
	return kind[int]{"number", yamlfile.Int, func(text string) (int, error) {
		n, err := strconv.Atoi(text)
		if err != nil || n < least || n > most {
			return 0, fmt.Errorf("but a whole number from %d to %d is expected", least, most)
		}
		return n, nil
	}, nil}
}

// boolean is true or false.
var boolean = kind[bool]{"bool", yamlfile.Bool, func(text string) (bool, error) {
	b, err := strconv.ParseBool(text)
	if err != nil {
		return false, errors.New("but true or false is expected")
	}
	return b, nil
}, nil}

// option is a word that stands for a value.
type option[T any] struct {
	word  string
	value T
}

// choice is one of a few words.
func choice[T any](options ...option[T]) kind[T] {
	words := make([]string, len(options))
	for i, o := range options {
		words[i] = o.word
	}
	return kind[T]{strings.Join(words, "|"), yamlfile.String, func(text string) (T, error) {
		if i := slices.Index(words, text); i >= 0 {
			return options[i].value, nil
		}
		var none T
		return none, fmt.Errorf("but %s is expected", strings.Join(words, " or "))
	}, nil}
}

var logLevel = choice(option[slog.Level]{"debug", slog.LevelDebug}, option[slog.Level]{"info", slog.LevelInfo},
	option[slog.Level]{"warn", slog.LevelWarn}, option[slog.Level]{"error", slog.LevelError})

// text turns a rule about a string into a kind.
func text(name string, rule func(string) error) kind[string] {
	return kind[string]{name, yamlfile.String, func(text string) (string, error) {
		if !utf8.ValidString(text) || strings.ContainsFunc(text, unicode.IsControl) {
			return "", errors.New("which has a line break or another control character in it. Remove it")
		}
		return text, rule(text)
	}, nil}
}

// maxNameBytes bounds the name of an environment, which every answer carries.
const maxNameBytes = 100

var (
	errEmpty = errors.New("but it cannot be empty. Write a value, or leave the setting out")

	path = text("path", func(text string) error {
		if text == "" {
			return errEmpty
		}
		return nil
	})
	// optionalPath may be empty, which says that there is none.
	optionalPath = text("path", func(string) error { return nil })

	name = text("name", func(text string) error {
		switch {
		case text == "":
			return errEmpty
		case len(text) > maxNameBytes:
			return fmt.Errorf("which has %d bytes, more than the %d that a name may have", len(text), maxNameBytes)
		case strings.TrimSpace(text) != text:
			return errors.New("which begins or ends with a space. Remove it")
		}
		return nil
	})

	color = text("colour", func(text string) error {
		digits, hex := strings.CutPrefix(text, "#")
		switch {
		case text == "" || slices.Contains(colours, text):
			return nil
		case hex && (len(digits) == 3 || len(digits) == 6) && strings.Trim(digits, "0123456789abcdefABCDEF") == "":
			return nil
		}
		return fmt.Errorf("which is no colour. Write one like \"#d33682\" (in YAML and shells in quotes), or one of %s", strings.Join(colours, ", "))
	})
)

// colours are those of CSS that people would choose for an environment.
var colours = []string{"black", "blue", "brown", "gray", "green", "orange", "pink", "purple", "red", "teal", "white", "yellow"}

var database = kind[Database]{"database", yamlfile.String, parseDatabase, shownDatabase}

// upstream is a server's base URL, or empty.
var upstream = kind[string]{"url", yamlfile.String, func(text string) (string, error) {
	if text == "" {
		return "", nil
	}
	endpoint, err := client.ParseEndpoint(text)
	if e, ok := errors.AsType[*client.Error](err); ok {
		return "", errors.New("which cannot be used: " + strings.TrimSuffix(e.Message, "."))
	}
	return endpoint, err
}, func(text string) string {
	if i := strings.LastIndex(text, "@"); i >= 0 {
		text = mask + text[i:]
	}
	return redacted(text)
}}

// address is a host and a port to listen on.
var address = kind[Address]{"host:port", yamlfile.String, func(text string) (Address, error) {
	tcp, err := net.ResolveTCPAddr("tcp", text)
	if err != nil {
		// The net package repeats the address, which stands before.
		if op, ok := errors.AsType[*net.OpError](err); ok {
			err = op.Err
		}
		reason := err.Error()
		if a, ok := errors.AsType[*net.AddrError](err); ok {
			reason = a.Err
		}
		return Address{}, fmt.Errorf("where nothing can listen: %s. Write a host and a port, like %s", reason, DefaultListen)
	}
	return Address{text, tcp}, nil
}, nil}

// optionalAddress may be empty, which says that there is none.
var optionalAddress = kind[Address]{address.name, address.yaml, func(text string) (Address, error) {
	if text == "" {
		return Address{}, nil
	}
	return address.parse(text)
}, nil}
