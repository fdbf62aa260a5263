package main

import (
	"context"
	"fmt"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// administer BOOTSTRAP TOPIC GROUP: what an administrator does.
func administer(bootstrap, topic, group string) {
	client, err := kgo.NewClient(kgo.SeedBrokers(bootstrap))
	must(err)
	defer client.Close()
	admin := kadm.NewClient(client)
	ctx := context.Background()

	retention := func() string {
		told, err := admin.DescribeTopicConfigs(ctx, topic)
		must(err)
		for _, entry := range told[0].Configs {
			if entry.Key == "retention.ms" {
				return entry.MaybeValue()
			}
		}
		return "none"
	}
	listed := func() bool {
		groups, err := admin.ListGroups(ctx)
		must(err)
		_, found := groups[group]
		return found
	}

	made, err := admin.CreateTopic(ctx, 3, 1, map[string]*string{"retention.ms": kadm.StringPtr("1000000")}, topic)
	must(err)
	must(made.Err)
	topics, err := admin.ListTopics(ctx, topic)
	must(err)
	fmt.Println("partitions", len(topics[topic].Partitions))
	fmt.Println("retention", retention())
	change := kadm.AlterConfig{Op: kadm.SetConfig, Name: "retention.ms", Value: kadm.StringPtr("2000000")}
	altered, err := admin.AlterTopicConfigs(ctx, []kadm.AlterConfig{change}, topic)
	must(err)
	must(altered[0].Err)
	fmt.Println("retention", retention())
	fmt.Println("listed", listed())
	described, err := admin.DescribeGroups(ctx, group)
	must(err)
	fmt.Println("state", described[group].State)
	_, err = admin.DeleteGroup(ctx, group)
	must(err)
	fmt.Println("listed", listed())
	_, err = admin.DeleteTopic(ctx, topic)
	must(err)
	topics, err = admin.ListTopics(ctx)
	must(err)
	fmt.Println("there", topics.Has(topic))
}
