module mqlog/interop

go 1.24.0

require github.com/twmb/franz-go v1.20.0
