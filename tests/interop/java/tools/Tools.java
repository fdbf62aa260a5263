import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.OutputStream;
import java.io.PrintStream;
import java.lang.reflect.InvocationTargetException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import org.apache.kafka.common.utils.Exit;

/**
 * Tools FILE: runs command-line classes of Kafka one after the other in this JVM.
 *
 * A line of FILE is a command: class, standard input, arguments, between them U+001F; U+001E stands
 * for the end of a line. What comes of each is printed: code, output, errors, with U+001F between
 * them and U+001D at the end.
 */
public final class Tools {
    // The first exit of a command counts: some catch what is thrown for it, and exit again.
    static Integer first;

    static final class Ended extends Error {
        final int code;

        Ended(int code) {
            super("exit " + code, null, false, false);
            this.code = code;
        }
    }

    public static void main(String[] args) throws Exception {
        PrintStream out = System.out;
        List<Runnable> hooks = new ArrayList<>();
        Exit.setExitProcedure((code, message) -> end(code));
        Exit.setHaltProcedure((code, message) -> end(code));
        Exit.setShutdownHookAdder((name, runnable) -> hooks.add(runnable));
        for (String line : Files.readAllLines(Path.of(args[0]))) {
            String[] words = line.split("\u001f", -1);
            ByteArrayOutputStream said = new ByteArrayOutputStream();
            ByteArrayOutputStream failed = new ByteArrayOutputStream();
            System.setOut(new PrintStream(said, true, StandardCharsets.UTF_8));
            System.setErr(new PrintStream(failed, true, StandardCharsets.UTF_8));
            byte[] in = words[1].replace('\u001e', '\n').getBytes(StandardCharsets.UTF_8);
            System.setIn(new ByteArrayInputStream(in));
            first = null;
            int code = run(words[0], Arrays.copyOfRange(words, 2, words.length));
            for (Runnable hook : hooks) {
                hook.run();
            }
            if (words[0].endsWith("VerifiableProducer")) {
                Thread.sleep(1000); // it returns before all is acknowledged, and closes at exit
            }
            hooks.clear();
            System.out.flush();
            System.err.flush();
            out.print(code + "\u001f" + said.toString(StandardCharsets.UTF_8) + "\u001f"
                + failed.toString(StandardCharsets.UTF_8) + "\u001d");
            out.flush();
        }
        Runtime.getRuntime().halt(0);
    }

    static void end(int code) {
        if (first == null) {
            first = code;
            System.err.flush();
            System.setErr(new PrintStream(OutputStream.nullOutputStream()));
        }
        throw new Ended(code);
    }

    static int run(String name, String[] arguments) {
        try {
            Class.forName(name).getMethod("main", String[].class)
                .invoke(null, (Object) arguments);
            return first == null ? 0 : first;
        } catch (InvocationTargetException error) {
            if (first != null) {
                return first;
            }
            error.getCause().printStackTrace();
            return 1;
        } catch (ReflectiveOperationException error) {
            error.printStackTrace();
            return 127;
        }
    }
}
