module mqlog/interop

go 1.24.0

require (
	github.com/twmb/franz-go v1.20.1
	github.com/twmb/franz-go/pkg/kadm v1.17.1
)
