#include "protocol/work.hpp"

#include "base/log.hpp"

Work Store::answered(const Answer& answer) const {
    const auto* const error = std::get_if<TasksError>(&answer);
    if (!error) return then(std::get<Rows>(answer));
    if (error->kind == TasksError::Kind::full) return sorry(507, error->what());
    logging::trouble("The tasks", error->what());
    return sorry(503, error->what());
}
