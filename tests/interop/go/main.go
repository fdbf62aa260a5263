// What franz-go is asked to do: main member|interop|admin ARGUMENTS.
package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

func main() {
	words := os.Args[2:]
	switch os.Args[1] {
	case "member":
		member(words[0], words[1], words[2], words[3])
	case "interop":
		count, err := strconv.Atoi(words[3])
		must(err)
		roundTrip(words[0], words[1], words[2], count)
	case "admin":
		administer(words[0], words[1], words[2])
	}
}

// member BOOTSTRAP TOPIC GROUP eager|cooperative|static: a member of a group.
func member(bootstrap, topic, group, mode string) {
	options := []kgo.Opt{
		kgo.SeedBrokers(bootstrap),
		kgo.ConsumerGroup(group),
		kgo.ConsumeTopics(topic),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.DisableAutoCommit(),
		kgo.SessionTimeout(10 * time.Second),
		kgo.HeartbeatInterval(500 * time.Millisecond),
	}
	switch mode {
	case "eager":
		options = append(options, kgo.Balancers(kgo.RangeBalancer()))
	case "cooperative":
		options = append(options, kgo.Balancers(kgo.CooperativeStickyBalancer()))
	case "static":
		options = append(options, kgo.Balancers(kgo.RangeBalancer()), kgo.InstanceID("member"))
	}
	client, err := kgo.NewClient(options...)
	if err != nil {
		panic(err)
	}
	ended := make(chan struct{})
	go func() {
		bufio.NewReader(os.Stdin).ReadString(0)
		close(ended)
	}()
	for {
		select {
		case <-ended:
			client.Close()
			return
		default:
		}
		ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
		fetches := client.PollFetches(ctx)
		cancel()
		fetches.EachRecord(func(record *kgo.Record) {
			fmt.Println(record.Partition, record.Offset)
		})
		if fetches.NumRecords() > 0 {
			if err := client.CommitUncommittedOffsets(context.Background()); err != nil {
				fmt.Fprintln(os.Stderr, err)
			}
		}
	}
}
