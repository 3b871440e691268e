import java.io.StringReader;
import java.io.StringWriter;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.util.Properties;
import org.postgresql.PGConnection;

/** The JDBC driver as it is, through the gateway: {@code Drive.java HOST PORT TOKEN}. Fails where it would. */
public final class Drive {
    private static void check(boolean holds, String what) {
        if (!holds) {
            throw new AssertionError(what);
        }
    }

    private interface Work {
        void run() throws SQLException;
    }

    private static SQLException refused(String code, Work work) {
        try {
            work.run();
        } catch (SQLException refused) {
            check(code.equals(refused.getSQLState()), refused.getSQLState() + ": " + refused.getMessage());
            return refused;
        }
        throw new AssertionError("nothing was refused where " + code + " was expected");
    }

    private static long count(Connection connection, String query) throws SQLException {
        try (Statement statement = connection.createStatement(); ResultSet rows = statement.executeQuery(query)) {
            check(rows.next(), "a row");
            return rows.getLong(1);
        }
    }

    public static void main(String[] arguments) throws Exception {
        String url = "jdbc:postgresql://" + arguments[0] + ":" + arguments[1] + "/crm";
        Properties properties = new Properties();
        properties.setProperty("user", "agent");
        properties.setProperty("password", arguments[2]);
        properties.setProperty("reWriteBatchedInserts", "true");
        try (Connection connection = DriverManager.getConnection(url, properties)) {
            // Prepared by name on the server after the fifth.
            try (PreparedStatement statement =
                    connection.prepareStatement("SELECT name FROM customers WHERE id = ?")) {
                for (int id = 1; id <= 20; id++) {
                    statement.setInt(1, id);
                    try (ResultSet rows = statement.executeQuery()) {
                        check(rows.next() == (id % 2 == 0), "the row of " + id);
                    }
                }
            }
            connection.setAutoCommit(false);
            try (PreparedStatement statement =
                    connection.prepareStatement("INSERT INTO orders (customer, total) VALUES (?, ?)")) {
                for (int n = 0; n < 1000; n++) {
                    statement.setInt(1, n);
                    statement.setInt(2, n);
                    statement.addBatch();
                }
                statement.executeBatch();
            }
            // Rows come in portions through a portal.
            try (Statement statement = connection.createStatement()) {
                statement.setFetchSize(100);
                int read = 0;
                try (ResultSet rows = statement.executeQuery("SELECT id, total FROM orders ORDER BY id")) {
                    while (rows.next()) {
                        read++;
                    }
                }
                check(read == 1000, "1000 rows, not " + read);
            }
            connection.commit();

            SQLException denied = refused("42501", () -> count(connection, "SELECT secret FROM customers"));
            check(denied.getMessage().contains("decision dec_"), denied.getMessage());
            refused("25P02", () -> count(connection, "SELECT 1"));
            connection.rollback();
            connection.setAutoCommit(true);

            var copying = connection.unwrap(PGConnection.class).getCopyAPI();
            StringBuilder text = new StringBuilder();
            for (int n = 0; n < 500; n++) {
                text.append(n).append('\t').append(n).append('\n');
            }
            long copied = copying.copyIn("COPY orders (customer, total) FROM STDIN", new StringReader(text.toString()));
            check(copied == 500, "500 rows in, not " + copied);
            StringWriter out = new StringWriter();
            copied = copying.copyOut("COPY (SELECT id FROM orders) TO STDOUT", out);
            check(copied == 1500 && out.toString().lines().count() == 1500, "1500 rows out, not " + copied);

            // A statement that takes too long is cancelled, and the connection goes on.
            try (Statement statement = connection.createStatement()) {
                statement.setQueryTimeout(1);
                refused("57014", () -> statement.executeQuery("SELECT count(*) FROM generate_series(1, 100000000000)"));
            }
            try (Statement statement = connection.createStatement()) {
                check(statement.executeUpdate("DELETE FROM orders") == 1500, "all orders are gone");
            }
            check(count(connection, "SELECT count(*) FROM customers") == 50, "50 customers");
        }
        System.out.println("done");
    }
}
