// Package livetest is a fake of the AWS APIs that package live asks. It answers with the
// fields, pages and errors of the API references of EKS, IAM and STS, and nothing else.
package livetest

import (
	"encoding/json"
	"encoding/xml"
	"fmt"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// AWS is what the fake knows.
type AWS struct {
	// Account of the credentials AKIDCALLER. A role that is assumed has the credentials
	// ASIA and its account.
	Account string
	// AddOns are the versions by Region, add-on and version of Kubernetes.
	AddOns map[string]map[string]map[string][]string
	// Roles are the ARNs of roles.
	Roles []string
	// Assumable are the ARNs of the roles that may be assumed.
	Assumable []string
	// Refused are actions such as iam:ListRoles that are denied.
	Refused []string
	// PageSize is that of all lists: 2 by default.
	PageSize int
}

// Start serves the fake on loopback.
func (a *AWS) Start() *httptest.Server { return httptest.NewServer(a) }

// Environment has the AWS SDK ask the server at a URL.
func Environment(url string) []string {
	return []string{
		"AWS_ENDPOINT_URL=" + url, "AWS_ACCESS_KEY_ID=AKIDCALLER", "AWS_SECRET_ACCESS_KEY=none", "AWS_EC2_METADATA_DISABLED=true",
		"AWS_CONFIG_FILE=none", "AWS_SHARED_CREDENTIALS_FILE=none", "AWS_MAX_ATTEMPTS=1",
	}
}

var credential = regexp.MustCompile(`Credential=([A-Z0-9]+)/[0-9]{8}/([a-z0-9-]+)/([a-z]+)/aws4_request`)

func (a *AWS) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	m := credential.FindStringSubmatch(r.Header.Get("Authorization"))
	if m == nil {
		http.Error(w, "unsigned", http.StatusForbidden)
		return
	}
	account, region, service := a.Account, m[2], m[3]
	if assumed, ok := strings.CutPrefix(m[1], "ASIA"); ok {
		account = assumed
	}
	if service == "eks" {
		a.eks(w, r, region)
		return
	}
	action := r.FormValue("Action")
	if slices.Contains(a.Refused, service+":"+action) {
		queryError(w, "AccessDenied", "not authorized to perform "+service+":"+action)
		return
	}
	switch service + ":" + action {
	case "sts:GetCallerIdentity":
		answer(w, action, fmt.Sprintf("<Account>%s</Account><Arn>arn:aws:iam::%[1]s:user/caller</Arn><UserId>AIDA</UserId>", account))
	case "sts:AssumeRole":
		arn := r.FormValue("RoleArn")
		if !slices.Contains(a.Assumable, arn) {
			queryError(w, "AccessDenied", "not authorized to perform sts:AssumeRole on resource "+arn)
			return
		}
		answer(w, action, fmt.Sprintf("<Credentials><AccessKeyId>ASIA%s</AccessKeyId><SecretAccessKey>none</SecretAccessKey><SessionToken>none</SessionToken><Expiration>2099-01-01T00:00:00Z</Expiration></Credentials>",
			strings.Split(arn, ":")[4]))
	case "iam:ListRoles":
		var all []string
		for _, arn := range a.Roles {
			parts := strings.SplitN(arn, ":", 6)
			if parts[4] == account && strings.HasPrefix(strings.TrimPrefix(parts[5], "role"), r.FormValue("PathPrefix")) {
				all = append(all, arn)
			}
		}
		page, next := a.page(all, r.FormValue("Marker"))
		var b strings.Builder
		b.WriteString("<Roles>")
		for _, arn := range page {
			name := arn[strings.LastIndex(arn, "/")+1:]
			path := strings.TrimSuffix(strings.TrimPrefix(strings.SplitN(arn, ":", 6)[5], "role"), name)
			_, _ = fmt.Fprintf(&b, "<member><Path>%s</Path><RoleName>%s</RoleName><RoleId>AROA</RoleId><Arn>%s</Arn><CreateDate>2026-01-01T00:00:00Z</CreateDate></member>", path, name, arn)
		}
		_, _ = fmt.Fprintf(&b, "</Roles><IsTruncated>%t</IsTruncated>", next != "")
		if next != "" {
			_, _ = fmt.Fprintf(&b, "<Marker>%s</Marker>", next)
		}
		answer(w, action, b.String())
	default:
		queryError(w, "InvalidAction", action)
	}
}

func answer(w http.ResponseWriter, action, result string) {
	_, _ = fmt.Fprintf(w, "<%sResponse><%[1]sResult>%s</%[1]sResult><ResponseMetadata><RequestId>1</RequestId></ResponseMetadata></%[1]sResponse>", action, result) //nolint:gosec // XML for the SDK, in a test
}

func queryError(w http.ResponseWriter, code, message string) {
	w.WriteHeader(http.StatusForbidden)
	var text strings.Builder
	_ = xml.EscapeText(&text, []byte(message))
	_, _ = fmt.Fprintf(w, "<ErrorResponse><Error><Type>Sender</Type><Code>%s</Code><Message>%s</Message></Error><RequestId>1</RequestId></ErrorResponse>", code, text.String())
}

// page is one of a list, and the token of the next.
func (a *AWS) page(all []string, token string) (page []string, next string) {
	from, _ := strconv.Atoi(token)
	to := from + max(a.PageSize, 2)
	if to < len(all) {
		return all[from:to], strconv.Itoa(to)
	}
	return all[from:], ""
}

func (a *AWS) eks(w http.ResponseWriter, r *http.Request, region string) {
	w.Header().Set("Content-Type", "application/json")
	fail := func(status int, code, message string) {
		w.Header().Set("X-Amzn-Errortype", code)
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(map[string]string{"message": message})
	}
	query := r.URL.Query()
	switch {
	case r.Method != http.MethodGet || r.URL.Path != "/addons/supported-versions":
		fail(http.StatusNotFound, "ResourceNotFoundException", r.Method+" "+r.URL.Path)
		return
	case slices.Contains(a.Refused, "eks:DescribeAddonVersions"):
		fail(http.StatusForbidden, "AccessDeniedException", "not authorized to perform eks:DescribeAddonVersions")
		return
	}
	name, version := query.Get("addonName"), query.Get("kubernetesVersion")
	addOn, found := a.AddOns[region][name]
	if !found {
		fail(http.StatusBadRequest, "InvalidParameterException", "Addon specified is not supported")
		return
	}
	page, next := a.page(addOn[version], query.Get("nextToken"))
	versions := []any{}
	for _, v := range page {
		versions = append(versions, map[string]any{
			"addonVersion": v, "architecture": []string{"amd64", "arm64"},
			"compatibilities": []any{map[string]any{"clusterVersion": version, "platformVersions": []string{"*"}, "defaultVersion": false}},
		})
	}
	body := map[string]any{"addons": []any{map[string]any{"addonName": name, "type": "networking", "addonVersions": versions}}}
	if next != "" {
		body["nextToken"] = next
	}
	_ = json.NewEncoder(w).Encode(body)
}
