package kmsplugin

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	kmsapi "k8s.io/kms/apis/v2"

	"github.com/ekskms/ekskms/internal/hint"
)

func probeCommand() *cobra.Command {
	var listen string
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:     "probe",
		Short:   "Ask a running plugin for its status and prove it with one round trip",
		Example: `  kms-plugin probe --listen unix:///run/kms-plugin/socket.sock`,
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, hangUp, err := dialSocket(listen)
			if err != nil {
				return err
			}
			defer hangUp()
			if timeout <= 0 {
				return hint.Usage(fmt.Sprintf("--timeout is %s, must be above 0", timeout), "")
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), timeout)
			defer cancel()
			id, err := probeSocket(ctx, client)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "ok: encrypted and decrypted under key_id %s\n", id)
			return err
		},
	}
	cmd.Flags().StringVar(&listen, "listen", defaultListen, "address of the plugin's socket")
	cmd.Flags().DurationVar(&timeout, "timeout", 5*time.Second, "how long the whole probe may take")
	return cmd
}

func dialSocket(listen string) (client kmsapi.KeyManagementServiceClient, hangUp func(), err error) {
	path, err := socketPath(listen)
	if err != nil {
		return nil, nil, hint.Usage("--listen: "+err.Error(), "")
	}
	conn, err := grpc.NewClient("unix://"+path, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return nil, nil, err
	}
	return kmsapi.NewKeyManagementServiceClient(conn), func() { _ = conn.Close() }, nil
}

func probeSocket(ctx context.Context, client kmsapi.KeyManagementServiceClient) (keyID string, err error) {
	const uid = "kms-plugin-probe"
	s, err := client.Status(ctx, &kmsapi.StatusRequest{})
	if err != nil {
		return "", hint.New("status: "+err.Error(), "see that kms-plugin serve runs and that this user may open its socket")
	}
	if s.GetHealthz() != healthy {
		return "", fmt.Errorf("the plugin is not healthy: %s", s.GetHealthz())
	}
	nonce := make([]byte, 32)
	_, _ = rand.Read(nonce) // never fails: crypto/rand ends the program instead
	e, err := client.Encrypt(ctx, &kmsapi.EncryptRequest{Plaintext: nonce, Uid: uid})
	if err != nil {
		return "", fmt.Errorf("encrypt: %w", err)
	}
	d, err := client.Decrypt(ctx, &kmsapi.DecryptRequest{Ciphertext: e.GetCiphertext(), KeyId: e.GetKeyId(), Annotations: e.GetAnnotations(), Uid: uid})
	if err != nil {
		return "", fmt.Errorf("decrypt: %w", err)
	}
	if subtle.ConstantTimeCompare(d.GetPlaintext(), nonce) != 1 {
		return "", errors.New("what was encrypted does not decrypt to itself")
	}
	return e.GetKeyId(), nil
}
