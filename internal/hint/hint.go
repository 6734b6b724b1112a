// Package hint has the one error that carries advice.
package hint

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
