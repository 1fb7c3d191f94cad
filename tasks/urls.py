"""The addresses of the pages."""

from django.urls import path

from tasks.views import board, code, doctor, projects, session, task

urlpatterns = [
    path("", projects.home, name="home"),
    path("sign-in/", session.sign_in, name="sign-in"),
    path("sign-in/<str:secret>", session.sign_in_by_link, name="sign-in-link"),
    path("sign-out/", session.sign_out, name="sign-out"),
    path("projects/new/", projects.new, name="project-new"),
    path("projects/demo/", projects.new_demo, name="project-demo"),
    path("projects/<uuid:project_id>/", board.board, name="board"),
    path("projects/<uuid:project_id>/pulse/", board.pulse, name="pulse"),
    path("projects/<uuid:project_id>/settings/", projects.change, name="project-settings"),
    path("projects/<uuid:project_id>/delete/", projects.delete, name="project-delete"),
    path("tasks/<uuid:task_id>/", task.task, name="task"),
    path("tasks/<uuid:task_id>/compare/", task.compare, name="task-compare"),
    path("tasks/<uuid:task_id>/description/", task.description, name="task-description"),
    path("tasks/<uuid:task_id>/history/", task.history, name="task-history"),
    path("doctor/", doctor.doctor, name="doctor"),
    path("doctor/judge/", doctor.judge, name="doctor-judge"),
    path("folders/", projects.folders, name="folders"),
    path("highlight/", code.colour, name="highlight"),
]
