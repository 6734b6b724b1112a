package evidence

import (
	"bytes"
	"encoding/json"
	"errors"
)

var errNoLog = errors.New("is no log file of CloudTrail: it has no list Records or Events")

// records calls each with the records of a file, as they stand there: of a log file, or of what
// 'aws cloudtrail lookup-events' prints.
//
// It walks the file itself, and takes no part of a record for a record: what a caller sends to an
// API is in its record, and could look like one.
func records(data []byte, each func([]byte) error) error {
	s := scanner{data: data}
	s.space()
	if !s.take('{') {
		return errNoLog
	}
	found := false
	for first := true; ; first = false {
		s.space()
		if s.take('}') {
			break
		}
		if !first && !s.take(',') {
			return s.broken()
		}
		s.space()
		name, ok := s.text()
		if s.space(); !ok || !s.take(':') {
			return s.broken()
		}
		s.space()
		switch string(name) {
		case `"Records"`:
			found = true
			if err := s.list(each); err != nil {
				return err
			}
		case `"Events"`:
			found = true
			if err := s.list(func(event []byte) error { return looked(event, each) }); err != nil {
				return err
			}
		default:
			if !s.skip() {
				return s.broken()
			}
		}
	}
	if !found {
		return errNoLog
	}
	return nil
}

// looked is an event as LookupEvents gives it: the record is a text in it.
func looked(event []byte, each func([]byte) error) error {
	var of struct{ CloudTrailEvent string }
	if err := json.Unmarshal(event, &of); err != nil {
		return err
	}
	if of.CloudTrailEvent == "" {
		return errNoLog
	}
	return each([]byte(of.CloudTrailEvent))
}

type scanner struct {
	data []byte
	at   int
}

func (s *scanner) broken() error {
	if s.at >= len(s.data) {
		return errors.New("ends in the middle")
	}
	return errors.New("is not JSON")
}

func (s *scanner) space() {
	for s.at < len(s.data) && (s.data[s.at] == ' ' || s.data[s.at] == '\n' || s.data[s.at] == '\r' || s.data[s.at] == '\t') {
		s.at++
	}
}

func (s *scanner) take(c byte) bool {
	if s.at < len(s.data) && s.data[s.at] == c {
		s.at++
		return true
	}
	return false
}

// text is a text with its quotes.
func (s *scanner) text() ([]byte, bool) {
	from := s.at
	if !s.take('"') {
		return nil, false
	}
	for {
		i := bytes.IndexByte(s.data[s.at:], '"')
		if i < 0 {
			s.at = len(s.data)
			return nil, false
		}
		end := s.at + i
		escapes := 0
		for end-escapes > s.at && s.data[end-escapes-1] == '\\' {
			escapes++
		}
		s.at = end + 1
		if escapes%2 == 0 {
			return s.data[from:s.at], true
		}
	}
}

// skip goes over a value.
func (s *scanner) skip() bool {
	depth := 0
	data := s.data
	for s.at < len(data) {
		switch data[s.at] {
		case '"':
			if _, ok := s.text(); !ok {
				return false
			}
			if depth == 0 {
				return true
			}
			continue
		case '{', '[':
			depth++
		case '}', ']':
			depth--
			if depth < 0 {
				return true // of what the value stands in
			}
			if depth == 0 {
				s.at++
				return true
			}
		case ',':
			if depth == 0 {
				return true
			}
		}
		s.at++
	}
	return false
}

func (s *scanner) list(each func([]byte) error) error {
	if !s.take('[') {
		return errNoLog
	}
	for first := true; ; first = false {
		s.space()
		if s.take(']') {
			return nil
		}
		if !first && !s.take(',') {
			return s.broken()
		}
		s.space()
		from := s.at
		if from >= len(s.data) || s.data[from] != '{' || !s.skip() {
			return s.broken()
		}
		if err := each(s.data[from:s.at]); err != nil {
			return err
		}
	}
}
