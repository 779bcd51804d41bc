// Reads resources of Strimzi, one JSON object per line, with the operator's own classes. An unknown property, an invalid value or a missing
// property is an error.
import com.fasterxml.jackson.databind.ObjectMapper
import io.strimzi.api.kafka.model.common.UnknownPropertyPreserving

def kinds = ['Kafka'         : io.strimzi.api.kafka.model.kafka.Kafka,
             'KafkaNodePool' : io.strimzi.api.kafka.model.nodepool.KafkaNodePool,
             'KafkaTopic'    : io.strimzi.api.kafka.model.topic.KafkaTopic,
             'KafkaUser'     : io.strimzi.api.kafka.model.user.KafkaUser]
def mapper = new ObjectMapper()
def complaints = []
def seen = new HashSet()

// Reports unknown properties, which each class keeps separately, at every level.
def unknown
unknown = { thing, String where ->
    if (thing instanceof Collection) {
        thing.eachWithIndex { part, at -> unknown(part, "$where[$at]") }
    } else if (thing != null && thing.getClass().name.startsWith('io.strimzi.')) {
        if (thing instanceof Enum) return
        if (thing instanceof UnknownPropertyPreserving) {
            thing.additionalProperties.keySet().each { complaints << "$where.$it: unknown property" }
        }
        for (Class type = thing.getClass(); type.name.startsWith('io.strimzi.'); type = type.superclass) {
            type.declaredFields.findAll { !it.synthetic && !java.lang.reflect.Modifier.isStatic(it.modifiers) }.each { field ->
                field.accessible = true
                unknown(field.get(thing), "$where.$field.name")
            }
        }
    }
}

new File(args[0]).eachLine { line ->
    if (!seen.add(line)) return
    def tree = mapper.readTree(line)
    def where = "${tree.get('kind').asText()} ${tree.at('/metadata/name').asText()}"
    def type = kinds[tree.get('kind').asText()]
    if (type == null) {
        complaints << "$where: unknown kind"
        return
    }
    try {
        def read = mapper.readValue(line, type)
        if (read.spec == null) complaints << "$where: no spec"
        unknown(read.spec, "${where}: spec")
    } catch (com.fasterxml.jackson.core.JsonProcessingException error) {
        complaints << "$where: ${error.originalMessage}"
    }
}
complaints.each { System.err.println("error: $it") }
if (complaints) System.exit(1)
println("${seen.size()} resources of Strimzi, valid for its operator")
