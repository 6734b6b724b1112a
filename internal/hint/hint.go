// Package hint has the one error that carries advice, and says in plain words what the
// libraries say in theirs.
package hint

import (
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"regexp"
	"strconv"
	"strings"
	"syscall"
)

// Error is what went wrong, for a person.
type Error struct {
	What string
	// Hint says what to do. Empty if nothing is known that helps.
	Hint string
	// Usage tells that the command line, or an input, is wrong.
	Usage bool
}

// Error returns what went wrong, without the advice.
func (e *Error) Error() string { return e.What }

// New returns an error with advice.
func New(what, advice string) error { return &Error{What: what, Hint: advice} }

// Usage is [New] for a wrong command line.
func Usage(what, advice string) error { return &Error{What: what, Hint: advice, Usage: true} }

var yamlLine = regexp.MustCompile(`^yaml: (?:line (\d+): )?(.*)`)

// Plain says in words what is wrong with a text in JSON or YAML, or with a file.
func Plain(err error) string {
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	var file *fs.PathError
	switch {
	case errors.As(err, &syntax):
		return "is not valid JSON, at byte " + strconv.FormatInt(syntax.Offset, 10)
	case errors.As(err, &kind):
		return "is JSON, with a " + kind.Value + " in a wrong place, at byte " + strconv.FormatInt(kind.Offset, 10)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "is not valid JSON: it ends too early"
	case errors.As(err, &file) && errors.Is(err, fs.ErrNotExist):
		return "there is no " + file.Path
	case errors.As(err, &file) && errors.Is(err, syscall.EISDIR):
		return file.Path + " is a folder, and must be a file"
	case errors.As(err, &file) && errors.Is(err, fs.ErrPermission):
		return file.Path + ": permission denied"
	}
	if m := yamlLine.FindStringSubmatch(err.Error()); m != nil {
		if m[1] != "" {
			return "is not valid YAML, in line " + m[1] + ": " + m[2]
		}
		return "is not valid YAML: " + m[2]
	}
	return strings.TrimSuffix(strings.TrimSpace(err.Error()), ": "+fs.ErrNotExist.Error())
}
