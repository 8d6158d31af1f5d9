import io.confluent.parallelconsumer.ParallelConsumerOptions;
import io.confluent.parallelconsumer.ParallelConsumerOptions.CommitMode;
import io.confluent.parallelconsumer.ParallelConsumerOptions.ProcessingOrder;
import io.confluent.parallelconsumer.ParallelStreamProcessor;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.util.Collection;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicLong;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/**
 * The work of {@code runtime.py} in Confluent's Parallel Consumer, in its transactional mode.
 *
 * <p>Started as {@code ParallelPeer BOOTSTRAP COUNT IN_FLIGHT}. For each line {@code SOURCE TARGET
 * GROUP} on its input it copies COUNT records and prints the seconds it took.
 *
 * <p>Settings beyond the mode are the library's defaults. Other commit intervals and larger batches
 * were no faster; {@code allowEagerProcessingDuringTransactionCommit}, which its documentation
 * advises against, took a fifth off.
 */
public final class ParallelPeer {
    private static final long LIMIT_SECONDS = 120;

    private final String bootstrap;
    private final int count;
    private final int inFlight;

    private ParallelPeer(String bootstrap, int count, int inFlight) {
        this.bootstrap = bootstrap;
        this.count = count;
        this.inFlight = inFlight;
    }

    public static void main(String[] args) throws Exception {
        var peer = new ParallelPeer(args[0], Integer.parseInt(args[1]), Integer.parseInt(args[2]));
        var lines = new BufferedReader(new InputStreamReader(System.in));
        try (var admin = Admin.create(Map.<String, Object>of("bootstrap.servers", args[0]))) {
            for (String line = lines.readLine(); line != null; line = lines.readLine()) {
                String[] names = line.split(" ");
                System.out.println(peer.once(admin, names[0], names[1], names[2]));
            }
        } catch (Exception error) {
            error.printStackTrace();
            System.exit(1); // its threads would keep a failed peer alive
        }
    }

    /** Seconds from having the partition to the commit that covers its last record. */
    private double once(Admin admin, String source, String target, String group) throws Exception {
        var began = new AtomicLong();
        var unhandled = new CountDownLatch(count);
        var options = ParallelConsumerOptions.<byte[], byte[]>builder()
                .consumer(consumer(group))
                .producer(producer(group))
                .commitMode(CommitMode.PERIODIC_TRANSACTIONAL_PRODUCER)
                .ordering(ProcessingOrder.UNORDERED)
                .maxConcurrency(inFlight)
                .build();
        ParallelStreamProcessor<byte[], byte[]> processor =
                ParallelStreamProcessor.createEosStreamProcessor(options);
        try {
            processor.subscribe(List.of(source), new ConsumerRebalanceListener() {
                @Override
                public void onPartitionsAssigned(Collection<TopicPartition> partitions) {
                    began.set(System.nanoTime());
                }

                @Override
                public void onPartitionsRevoked(Collection<TopicPartition> partitions) {}
            });
            processor.pollAndProduceMany(polled -> {
                pause(Long.parseLong(new String(polled.key())));
                unhandled.countDown();
                return List.of(new ProducerRecord<>(target, polled.key(), polled.value()));
            });
            if (!unhandled.await(LIMIT_SECONDS, TimeUnit.SECONDS)) {
                throw new IllegalStateException(unhandled.getCount() + " records not handled");
            }
            // Asked only once the calls are over, so that asking does not slow them.
            var partition = new TopicPartition(source, 0);
            while (committed(admin, group, partition) < count) {
                Thread.sleep(1);
            }
            return (System.nanoTime() - began.get()) / 1e9;
        } finally {
            processor.close();
        }
    }

    private static long committed(Admin admin, String group, TopicPartition partition)
            throws Exception {
        var offsets = admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata().get();
        var found = offsets.get(partition);
        return found == null ? 0 : found.offset();
    }

    private static void pause(long milliseconds) {
        try {
            Thread.sleep(milliseconds);
        } catch (InterruptedException error) {
            throw new IllegalStateException(error);
        }
    }

    private KafkaConsumer<byte[], byte[]> consumer(String group) {
        Map<String, Object> settings = Map.of(
                "bootstrap.servers", bootstrap,
                "group.id", group,
                "auto.offset.reset", "earliest",
                "enable.auto.commit", false,
                "isolation.level", "read_committed");
        return new KafkaConsumer<>(settings, new ByteArrayDeserializer(), new ByteArrayDeserializer());
    }

    private KafkaProducer<byte[], byte[]> producer(String group) {
        Map<String, Object> settings =
                Map.of("bootstrap.servers", bootstrap, "transactional.id", group);
        return new KafkaProducer<>(settings, new ByteArraySerializer(), new ByteArraySerializer());
    }
}
