package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"google.golang.org/grpc"
	kmsapi "k8s.io/kms/apis/v2"

	"github.com/ekskms/ekskms/internal/kmsfake"
)

// The variables that make this program one of its own servers.
const (
	roleVariable     = "EKSKMS_BENCHPLUGIN_ROLE"
	argumentVariable = "EKSKMS_BENCHPLUGIN_ARGUMENT"

	roleFloor = "floor" // the argument is the socket's path
	roleFake  = "fake"  // the argument is the latency
)

const region = "eu-central-1"

// seed is what is encrypted everywhere, so that answers can be checked. An API
// server's seed has 32 bytes too.
var seed = []byte("0123456789abcdef0123456789abcdef")

// playRole is the whole program in the processes that startRole makes.
func playRole() (code int, ok bool) {
	var err error
	argument := os.Getenv(argumentVariable)
	switch role := os.Getenv(roleVariable); role {
	case "":
		return 0, false
	case roleFloor:
		err = serveFloor(argument)
	case roleFake:
		err = serveFake(argument)
	default:
		err = fmt.Errorf("no role %q", role)
	}
	fmt.Fprintln(os.Stderr, "benchplugin:", err)
	return 1, true
}

// floor is a KMS v2 service with messages of the plugin's size and no work.
type floor struct {
	kmsapi.UnimplementedKeyManagementServiceServer
	keyID      string
	ciphertext []byte
}

func (f *floor) Status(context.Context, *kmsapi.StatusRequest) (*kmsapi.StatusResponse, error) {
	return &kmsapi.StatusResponse{Version: "v2", Healthz: "ok", KeyId: f.keyID}, nil
}

func (f *floor) Encrypt(context.Context, *kmsapi.EncryptRequest) (*kmsapi.EncryptResponse, error) {
	return &kmsapi.EncryptResponse{Ciphertext: f.ciphertext, KeyId: f.keyID}, nil
}

func (f *floor) Decrypt(context.Context, *kmsapi.DecryptRequest) (*kmsapi.DecryptResponse, error) {
	return &kmsapi.DecryptResponse{Plaintext: seed}, nil
}

func serveFloor(socket string) error {
	l, err := net.Listen("unix", socket)
	if err != nil {
		return err
	}
	server := grpc.NewServer()
	hash := strings.Repeat("0", 32)
	kmsapi.RegisterKeyManagementServiceServer(server, &floor{
		keyID:      "v2:" + hash + ":" + hash,
		ciphertext: make([]byte, 184+63), // about an envelope with what AWS KMS makes of a data key
	})
	return server.Serve(l)
}

// fakeAddress is what the fake tells about itself on its standard output.
type fakeAddress struct {
	URL     string // of KMS
	Control string // answers with fakeCounters
	Key     string // ARN
}

type fakeCounters struct {
	Connections int
	Requests    int
}

func serveFake(latency string) error {
	d, err := time.ParseDuration(latency)
	if err != nil {
		return err
	}
	fake := kmsfake.New(region)
	address := fakeAddress{Key: fake.NewKey().ARN}
	fake.Latency(d)
	fake.FindsKeys() // for peers that leave it to KMS
	failed := make(chan error, 2)
	serve := func(s *http.Server) (url string, err error) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return "", err
		}
		go func() { failed <- s.Serve(l) }()
		return "http://" + l.Addr().String(), nil
	}
	if address.URL, err = serve(&http.Server{Handler: fake, ConnState: fake.ConnState, ReadHeaderTimeout: time.Minute}); err != nil {
		return err
	}
	// A listener of its own, so that asking adds nothing to what is counted.
	control := func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(fakeCounters{fake.Connections(), fake.Count("*")})
	}
	if address.Control, err = serve(&http.Server{Handler: http.HandlerFunc(control), ReadHeaderTimeout: time.Minute}); err != nil {
		return err
	}
	if err := json.NewEncoder(os.Stdout).Encode(address); err != nil {
		return err
	}
	return <-failed
}
