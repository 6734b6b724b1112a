package live

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudtrail"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/ekskms/ekskms/internal/place"
)

// Bucket reads the objects of a bucket, or of a part of it.
type Bucket struct {
	client       *s3.Client
	name, prefix string
}

// Bucket is one, from where its names begin with a prefix.
func (a *AWS) Bucket(ctx context.Context, name, prefix string) (*Bucket, error) {
	c, err := a.at("")
	if err != nil {
		c = a.config.Copy()
		c.Region = "us-east-1" // which tells where a bucket is
	}
	own := s3.NewFromConfig(c, pathStyle(c))
	at, err := own.GetBucketLocation(ctx, &s3.GetBucketLocationInput{Bucket: &name})
	if err == nil {
		c.Region = cmp.Or(string(at.LocationConstraint), "us-east-1")
		if c.Region == "EU" {
			c.Region = "eu-west-1"
		}
	}
	return &Bucket{s3.NewFromConfig(c, pathStyle(c)), name, strings.Trim(prefix, "/")}, nil
}

// pathStyle is for an endpoint of one's own, which has no names of buckets in its own.
func pathStyle(c aws.Config) func(*s3.Options) {
	return func(o *s3.Options) { o.UsePathStyle = c.BaseEndpoint != nil }
}

// Bucket is its name, and the prefix.
func (b *Bucket) Bucket() (name, prefix string) { return b.name, b.prefix }

// AtOnce is how many objects are worth reading at the same time: reading waits more than it
// works.
func (b *Bucket) AtOnce() int { return 16 }

func (b *Bucket) key(name string) string {
	if b.prefix == "" {
		return name
	}
	return strings.TrimSuffix(b.prefix+"/"+name, "/")
}

// List names what is directly below a folder.
func (b *Bucket) List(ctx context.Context, folder string) (folders, files []string, err error) {
	prefix, own := b.key(folder), ""
	if prefix != "" {
		prefix += "/"
	}
	if b.prefix != "" {
		own = b.prefix + "/"
	}
	pages := s3.NewListObjectsV2Paginator(b.client, &s3.ListObjectsV2Input{Bucket: &b.name, Prefix: &prefix, Delimiter: aws.String("/")})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, nil, said("s3:ListBucket", err)
		}
		for _, p := range page.CommonPrefixes {
			folders = append(folders, strings.TrimSuffix(strings.TrimPrefix(aws.ToString(p.Prefix), own), "/"))
		}
		for _, o := range page.Contents {
			if name := strings.TrimPrefix(aws.ToString(o.Key), own); !strings.HasSuffix(name, "/") {
				files = append(files, name)
			}
		}
	}
	return folders, files, nil
}

// Read reads an object with its metadata.
func (b *Bucket) Read(ctx context.Context, name string) ([]byte, map[string]string, error) {
	key := b.key(name)
	out, err := b.client.GetObject(ctx, &s3.GetObjectInput{Bucket: &b.name, Key: &key})
	if err != nil {
		if ctx.Err() != nil {
			return nil, nil, ctx.Err()
		}
		return nil, nil, said("s3:GetObject", err)
	}
	defer func() { _ = out.Body.Close() }()
	data, err := io.ReadAll(out.Body)
	if err != nil {
		if ctx.Err() != nil {
			return nil, nil, ctx.Err()
		}
		return nil, nil, fmt.Errorf("reading the object failed: %w", err)
	}
	metadata := map[string]string{}
	for name, v := range out.Metadata {
		metadata[strings.ToLower(name)] = v
	}
	return data, metadata, nil
}

// SigningKey is a public key of CloudTrail.
type SigningKey struct {
	Fingerprint string
	DER         []byte
}

// SigningKeys are the public keys with which CloudTrail's digest files of a Region and a time are
// verified.
func (a *AWS) SigningKeys(ctx context.Context, region string, from, to time.Time) (all []SigningKey, err error) {
	c, err := a.at(region)
	if err != nil {
		return nil, err
	}
	in := &cloudtrail.ListPublicKeysInput{StartTime: &from, EndTime: &to}
	for {
		page, err := cloudtrail.NewFromConfig(c).ListPublicKeys(ctx, in)
		if err != nil {
			return nil, said("cloudtrail:ListPublicKeys", err)
		}
		for _, k := range page.PublicKeyList {
			all = append(all, SigningKey{aws.ToString(k.Fingerprint), k.Value})
		}
		if in.NextToken = page.NextToken; in.NextToken == nil {
			return all, nil
		}
	}
}

// Rotation is one of a key, as KMS lists them.
type Rotation struct {
	At             time.Time
	Type, Material string
}

// Rotations are those of a key, in its account.
func (a *AWS) Rotations(ctx context.Context, key string) (all []Rotation, err error) {
	arn, _ := place.ParseARN(key)
	c, err := a.in(ctx, arn.AccountID, arn.Region)
	if err != nil {
		return nil, err
	}
	pages := kms.NewListKeyRotationsPaginator(kms.NewFromConfig(c), &kms.ListKeyRotationsInput{KeyId: &key})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, said("kms:ListKeyRotations", err)
		}
		for _, r := range page.Rotations {
			if r.RotationDate != nil {
				all = append(all, Rotation{*r.RotationDate, string(r.RotationType), aws.ToString(r.KeyMaterialId)})
			}
		}
	}
	return all, nil
}
