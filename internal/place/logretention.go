package place

import (
	"maps"
	"slices"
)

// logRetentions are the periods of CloudWatch Logs, in days, and what the CDK calls
// them. Source: PutRetentionPolicy in the CloudWatch Logs API Reference, and the
// enumeration RetentionDays of the CDK.
var logRetentions = map[int]string{
	1:    "ONE_DAY",
	3:    "THREE_DAYS",
	5:    "FIVE_DAYS",
	7:    "ONE_WEEK",
	14:   "TWO_WEEKS",
	30:   "ONE_MONTH",
	60:   "TWO_MONTHS",
	90:   "THREE_MONTHS",
	120:  "FOUR_MONTHS",
	150:  "FIVE_MONTHS",
	180:  "SIX_MONTHS",
	365:  "ONE_YEAR",
	400:  "THIRTEEN_MONTHS",
	545:  "EIGHTEEN_MONTHS",
	731:  "TWO_YEARS",
	1096: "THREE_YEARS",
	1827: "FIVE_YEARS",
	2192: "SIX_YEARS",
	2557: "SEVEN_YEARS",
	2922: "EIGHT_YEARS",
	3288: "NINE_YEARS",
	3653: "TEN_YEARS",
}

// LogRetention is what the CDK calls a period of CloudWatch Logs, given in days; ""
// if there is no such period.
func LogRetention(days int) string { return logRetentions[days] }

// LogRetentions are the periods of CloudWatch Logs, in days.
func LogRetentions() []int { return slices.Sorted(maps.Keys(logRetentions)) }

// LogDays is the period that the CDK calls so, in days; -1 for one without an end.
func LogDays(retention string) int {
	for days, name := range logRetentions {
		if name == retention {
			return days
		}
	}
	return -1
}
