// Asked by the probes. The first member founds the replica set and makes the accounts, both once and both possible without
// a password only while there is no account (MongoDB's localhost exception). A member is well when it is primary or secondary.
const members = process.env.MEMBERS.split(" ");
const first = process.env.HOSTNAME === members[0].split(".")[0];
if (first && !db.hello().setName) {
  rs.initiate({ _id: "sosohappy", members: members.map((host, _id) => ({ _id, host: `${host}:27017` })) });
}
const hello = db.hello();
if (first && hello.isWritablePrimary) {
  const admin = db.getSiblingDB("admin");
  const password = process.env.MONGODB_ROOT_PASSWORD;
  try {
    admin.createUser({ user: "root", pwd: password, roles: ["root"] });
  } catch (error) {
    // There is an account already.
    if (error.codeName !== "Unauthorized" && error.code !== 51003) throw error;
  }
  if (!admin.auth("root", password)) quit(1);
  const accounts = { dm: ["dbOwner", "dm"], notice: ["dbOwner", "notice"], exporter: ["clusterMonitor", "admin"] };
  for (const [user, [role, database]] of Object.entries(accounts)) {
    const pwd = process.env[`MONGODB_${user.toUpperCase()}_PASSWORD`];
    if (!admin.getUser(user)) admin.createUser({ user, pwd, roles: [{ role, db: database }] });
  }
}
if (!hello.isWritablePrimary && !hello.secondary) quit(1);
