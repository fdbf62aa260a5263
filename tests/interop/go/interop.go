package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

func codec(name string) kgo.CompressionCodec {
	switch name {
	case "gzip":
		return kgo.GzipCompression()
	case "snappy":
		return kgo.SnappyCompression()
	case "lz4":
		return kgo.Lz4Compression()
	case "zstd":
		return kgo.ZstdCompression()
	}
	return kgo.NoCompression()
}

func key(number int) []byte {
	if number%7 == 3 {
		return nil
	}
	return []byte("k" + strconv.Itoa(number))
}

func value(number int) []byte {
	if number%14 == 5 {
		return nil
	}
	return []byte(fmt.Sprintf("v%d-%s", number, strings.Repeat("x", number%200)))
}

// roundTrip BOOTSTRAP TOPIC CODEC COUNT: produces the records of records.py, reads them back.
func roundTrip(bootstrap, topic, compression string, count int) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	producer, err := kgo.NewClient(
		kgo.SeedBrokers(bootstrap),
		kgo.ProducerBatchCompression(codec(compression)),
		kgo.ProducerLinger(50*time.Millisecond),
		kgo.RecordPartitioner(kgo.ManualPartitioner()),
	)
	must(err)
	records := make([]*kgo.Record, count)
	for number := range records {
		header := kgo.RecordHeader{Key: "number", Value: []byte(strconv.Itoa(number))}
		records[number] = &kgo.Record{
			Topic: topic, Key: key(number), Value: value(number), Headers: []kgo.RecordHeader{header},
		}
	}
	for number, result := range producer.ProduceSync(ctx, records...) {
		must(result.Err)
		expect("offset", int64(number), result.Record.Offset)
	}
	producer.Close()

	start := map[string]map[int32]kgo.Offset{topic: {0: kgo.NewOffset().AtStart()}}
	consumer, err := kgo.NewClient(kgo.SeedBrokers(bootstrap), kgo.ConsumePartitions(start))
	must(err)
	number := 0
	for number < count {
		fetches := consumer.PollFetches(ctx)
		must(fetches.Err0())
		fetches.EachRecord(func(record *kgo.Record) {
			expect("offset", int64(number), record.Offset)
			same("key", key(number), record.Key)
			same("value", value(number), record.Value)
			same("header", []byte(strconv.Itoa(number)), record.Headers[0].Value)
			number++
		})
	}
	consumer.Close()
	fmt.Println("ok", number)
}

func same(what string, wanted, got []byte) {
	if (wanted == nil) != (got == nil) || !bytes.Equal(wanted, got) {
		expect(what, wanted, got)
	}
}

func expect(what string, wanted, got any) {
	if fmt.Sprint(wanted) != fmt.Sprint(got) {
		fmt.Fprintf(os.Stderr, "%s: expected %v, got %v\n", what, wanted, got)
		os.Exit(1)
	}
}

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
