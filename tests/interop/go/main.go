// main BOOTSTRAP TOPIC GROUP eager|cooperative|static: a member of a group, with franz-go.
package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

func main() {
	bootstrap, topic, group, mode := os.Args[1], os.Args[2], os.Args[3], os.Args[4]
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
